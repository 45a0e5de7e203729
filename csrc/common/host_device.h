// Functions that the CPU and the CUDA twin of an op share.
#pragma once

#if defined(__CUDACC__)
#define DOVETAIL_HOST_DEVICE __host__ __device__
#else
#define DOVETAIL_HOST_DEVICE
#endif
