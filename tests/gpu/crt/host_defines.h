/* In place of the compiler package's file, which torch does not bring: what CUDA's
 * runtime headers need of it when a plain C compiler reads them. */
#define __host__
#define __device__
#define __cudart_builtin__
#define __device_builtin__
#define __device_builtin_texture_type__
#define __device_builtin_surface_type__
#define __align__(n) __attribute__((aligned(n)))
#define __builtin_align__(n) __align__(n)
#define CUDARTAPI
