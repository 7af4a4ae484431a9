# shellcheck shell=bash
# Where the corpora are, as in ESPnet: source it, do not run it.
#
# Write the folder behind the name, or set the variable before you start, which wins.
# "downloads" stands for the folder downloads/ of the recipe. Empty: you do not have it.
# The licenses of these corpora ask you to fetch them yourself; nothing here downloads.

# IEMOCAP_full_release, with Session1 ... Session5 in it
IEMOCAP=${IEMOCAP:-}
# MSP-Podcast 1.8 or later, with Audios (or Audio) and Labels in it
MSP_PODCAST=${MSP_PODCAST:-}
# CREMA-D, with AudioWAV and VideoDemographics.csv in it
CREMA_D=${CREMA_D:-}
# RAVDESS (speech, audio only), with Actor_01 ... Actor_24 in it
RAVDESS=${RAVDESS:-}
# Berlin EmoDB, with wav in it
EMODB=${EMODB:-}
# MELD.Raw, with train, dev and test unpacked in it
MELD=${MELD:-}
