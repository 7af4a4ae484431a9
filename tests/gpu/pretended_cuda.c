/* A CUDA runtime that has GPUs and cannot compute: preloaded, it lets torch see
 * PRETENDED_GPUS of them (1) on a machine without any. Their memory is the host's.
 * Whatever comes before the first kernel is torch's real code: looking for GPUs,
 * forking, contexts, allocation, copies. A kernel fails as on a GPU of a generation that
 * torch was not built for.
 *
 * It answers for the driver too, which torch opens by its name: link it with
 * -Wl,-soname,libcuda.so.1.
 */
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER(name, parameters, answer) \
    cudaError_t name parameters { answer; return cudaSuccess; }

static const size_t total = 80ull << 30;
static __thread int current = 0;
static __thread cudaError_t last = cudaSuccess;

static int gpus(void) {
    const char *text = getenv("PRETENDED_GPUS");
    return text ? atoi(text) : 1;
}

static void *memory(size_t size) {
    return calloc((size + 511) / 512 + 1, 512);
}

/* What there is */
ANSWER(cudaGetDeviceCount, (int *count), *count = gpus())
ANSWER(cudaGetDevice, (int *device), *device = current)
ANSWER(cudaSetDevice, (int device), current = device)
ANSWER(cudaDriverGetVersion, (int *version), *version = 13000)
ANSWER(cudaRuntimeGetVersion, (int *version), *version = 13000)
ANSWER(cudaMemGetInfo, (size_t *left, size_t *all), *left = *all = total)
ANSWER(cudaDeviceCanAccessPeer, (int *can, int a, int b), *can = 0)
ANSWER(cudaDeviceGetAttribute, (int *value, enum cudaDeviceAttr attribute, int device),
       *value = attribute == cudaDevAttrComputeCapabilityMajor ? 9 : 0)

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device) {
    memset(properties, 0, sizeof *properties);
    strcpy(properties->name, "pretended GPU");
    properties->major = 9;
    properties->totalGlobalMem = total;
    properties->warpSize = 32;
    properties->multiProcessorCount = 100;
    properties->maxThreadsPerBlock = 1024;
    properties->maxThreadsPerMultiProcessor = 2048;
    return cudaSuccess;
}

/* Streams and events: all is done at once */
#define NEW(type, where) *where = (type)malloc(8)
ANSWER(cudaDeviceGetStreamPriorityRange, (int *low, int *high), *low = *high = 0)
ANSWER(cudaStreamCreateWithPriority, (cudaStream_t *s, unsigned f, int p),
       NEW(cudaStream_t, s))
ANSWER(cudaStreamCreateWithFlags, (cudaStream_t *s, unsigned f), NEW(cudaStream_t, s))
ANSWER(cudaStreamSynchronize, (cudaStream_t s), )
ANSWER(cudaStreamQuery, (cudaStream_t s), )
ANSWER(cudaStreamWaitEvent, (cudaStream_t s, cudaEvent_t e, unsigned f), )
ANSWER(cudaStreamIsCapturing, (cudaStream_t s, enum cudaStreamCaptureStatus *status),
       *status = cudaStreamCaptureStatusNone)
ANSWER(cudaStreamGetCaptureInfo,
       (cudaStream_t s, enum cudaStreamCaptureStatus *status, unsigned long long *id,
        cudaGraph_t *graph, const cudaGraphNode_t **nodes,
        const cudaGraphEdgeData **edges, size_t *count),
       *status = cudaStreamCaptureStatusNone)
ANSWER(cudaThreadExchangeStreamCaptureMode, (enum cudaStreamCaptureMode * mode), )
ANSWER(cudaEventCreateWithFlags, (cudaEvent_t *e, unsigned f), NEW(cudaEvent_t, e))
ANSWER(cudaEventDestroy, (cudaEvent_t e), free(e))
ANSWER(cudaEventRecord, (cudaEvent_t e, cudaStream_t s), )
ANSWER(cudaEventQuery, (cudaEvent_t e), )
ANSWER(cudaEventSynchronize, (cudaEvent_t e), )
ANSWER(cudaDeviceSynchronize, (void), )

/* Memory */
ANSWER(cudaMalloc, (void **where, size_t size), *where = memory(size))
ANSWER(cudaFree, (void *where), free(where))
ANSWER(cudaHostAlloc, (void **where, size_t size, unsigned f), *where = memory(size))
ANSWER(cudaFreeHost, (void *where), free(where))
ANSWER(cudaMemcpyAsync, (void *to, const void *from, size_t size,
       enum cudaMemcpyKind kind, cudaStream_t s), memcpy(to, from, size))
ANSWER(cudaMemsetAsync, (void *where, int value, size_t size, cudaStream_t s),
       memset(where, value, size))
ANSWER(cudaPointerGetAttributes, (struct cudaPointerAttributes *a, const void *where),
       memset(a, 0, sizeof *a))

/* Computing */
static cudaError_t refuse(void) { return last = cudaErrorNoKernelImageForDevice; }

ANSWER(__cudaGetKernel, (cudaKernel_t * kernel, const void *function),
       *kernel = (cudaKernel_t)function)

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block,
                               void **arguments, size_t shared, cudaStream_t s) {
    return refuse();
}

cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **arguments,
                             size_t shared, cudaStream_t s) {
    return refuse();
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *how, const void *kernel,
                                void **arguments) {
    return refuse();
}

cudaError_t cudaPeekAtLastError(void) { return last; }

cudaError_t cudaGetLastError(void) {
    cudaError_t error = last;
    last = cudaSuccess;
    return error;
}

/* The driver: any of its functions says that it has done what it was asked */
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    *flags = 0;
    *active = 1;
    return 0;
}

static int done(void) { return 0; }

cudaError_t cudaGetDriverEntryPointByVersion(
    const char *name, void **function, unsigned version, unsigned long long flags,
    enum cudaDriverEntryPointQueryResult *found) {
    int known = strcmp(name, "cuDevicePrimaryCtxGetState") == 0;
    *function = known ? (void *)cuDevicePrimaryCtxGetState : (void *)done;
    if (found) *found = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}
