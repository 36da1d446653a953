/* What the parts of the CUDA stand-in know of each other. */
#ifndef DRY_RUN_CUDA_H
#define DRY_RUN_CUDA_H
#include "stand_in.h"

enum cuda_status {
  SUCCESS = 0, OUT_OF_MEMORY = 2, INVALID_CONFIGURATION = 9, DRIVER_TOO_OLD = 35, NO_DEVICE = 100,
  INVALID_DEVICE = 101, NO_KERNEL_IMAGE = 209, INVALID_HANDLE = 400, ILLEGAL_STATE = 401,
  ILLEGAL_ADDRESS = 700,
  CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901, CAPTURE_IMPLICIT = 906
};

typedef struct { unsigned x, y, z; } size3;
typedef void *stream_t;

/* device.c */
#define MAX_DEVICES 16
int failed(int status);                /* remembers it as the last error, and gives it back */
int usable(void);                      /* SUCCESS, or why there is no device at all */
int current_device(void);
int compute_capability(void);          /* 89, 90, … */
size_t memory_size(void);
int device_count(void);
int driver_version(void);              /* 13000 is 13.0 */
const char *device_name(void);
int device_attribute(int *value, int attribute);
const char *cudaGetErrorString(int status);

/* memory.c */
enum place { PAGEABLE, DEVICE, PINNED };
enum place place_of(const void *address);

/* streams.c */
int queue(stream_t stream, const char *what);   /* something joins a stream */
int foreign(stream_t stream, const char *what); /* a kernel in a stream of another device */
int unsafe_in_capture(const char *what);        /* an allocation or a synchronisation */
int in_capture(stream_t stream);
#endif
