// Marks functions that both the CPU and the CUDA implementation of an op use.
#pragma once

#if defined(__CUDACC__)
#define DOVETAIL_HOST_DEVICE __host__ __device__
#else
#define DOVETAIL_HOST_DEVICE
#endif
