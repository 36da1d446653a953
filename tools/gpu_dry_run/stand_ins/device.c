/* Which device is pretended?

   DRY_RUN_SM=89 or 90       an L40S or an H200; others get the L40S's sizes
   DRY_RUN_DRIVER=13.0       the CUDA version the driver speaks; below 13.0: too old
   DRY_RUN_DEVICES=1         how many there are
   DRY_RUN_MEMORY_GB=44.4    memory of each (139 for sm 90) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cuda.h"

#define RUNTIME_VERSION 13000

static __thread int last_status, chosen_device;

static double setting(const char *name, double otherwise) {
  const char *value = getenv(name);
  return value && *value ? atof(value) : otherwise;
}

int compute_capability(void) { return (int)setting("DRY_RUN_SM", 89); }
size_t memory_size(void) {
  double otherwise = compute_capability() == 90 ? 139 : 44.4;
  return (size_t)(setting("DRY_RUN_MEMORY_GB", otherwise) * 1024 * 1024 * 1024);
}
int device_count(void) {
  int wanted = (int)setting("DRY_RUN_DEVICES", 1);
  return wanted < MAX_DEVICES ? wanted : MAX_DEVICES;
}
int driver_version(void) { /* 12.8 is 12080 */
  double version = setting("DRY_RUN_DRIVER", RUNTIME_VERSION / 1000.0);
  return 1000 * (int)version + 10 * (int)((version - (int)version) * 10 + 0.5);
}

const char *device_name(void) {
  return compute_capability() == 90 ? "dry run (H200)" : "dry run (L40S)";
}

int failed(int status) { return last_status = status; }
int usable(void) {
  if (driver_version() < RUNTIME_VERSION) return failed(DRIVER_TOO_OLD);
  return device_count() > 0 ? SUCCESS : failed(NO_DEVICE);
}
int current_device(void) { return chosen_device; }

int cudaGetLastError(void) { int status = last_status; last_status = SUCCESS; return status; }
int cudaPeekAtLastError(void) { return last_status; }

static const struct { int status; const char *name, *text; } texts[] = {
  {SUCCESS, "cudaSuccess", "no error"},
  {OUT_OF_MEMORY, "cudaErrorMemoryAllocation", "out of memory"},
  {INVALID_CONFIGURATION, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
  {DRIVER_TOO_OLD, "cudaErrorInsufficientDriver",
   "CUDA driver version is insufficient for CUDA runtime version"},
  {NO_DEVICE, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
  {INVALID_DEVICE, "cudaErrorInvalidDevice", "invalid device ordinal"},
  {NO_KERNEL_IMAGE, "cudaErrorNoKernelImageForDevice",
   "no kernel image is available for execution on the device"},
  {INVALID_HANDLE, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
  {ILLEGAL_STATE, "cudaErrorIllegalState",
   "the operation cannot be performed in the present state"},
  {ILLEGAL_ADDRESS, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
  {CAPTURE_UNSUPPORTED, "cudaErrorStreamCaptureUnsupported",
   "operation not permitted when stream is capturing"},
  {CAPTURE_INVALIDATED, "cudaErrorStreamCaptureInvalidated",
   "operation failed due to a previous error during capture"},
  {CAPTURE_IMPLICIT, "cudaErrorStreamCaptureImplicit",
   "operation would make the legacy stream depend on a capturing blocking stream"},
};
#define TEXTS (sizeof texts / sizeof *texts)
const char *cudaGetErrorName(int status) {
  for (size_t i = 0; i < TEXTS; i++) if (texts[i].status == status) return texts[i].name;
  return "cudaErrorPretended";
}
const char *cudaGetErrorString(int status) {
  for (size_t i = 0; i < TEXTS; i++) if (texts[i].status == status) return texts[i].text;
  return "a pretended error";
}

int cudaRuntimeGetVersion(int *version) { *version = RUNTIME_VERSION; return SUCCESS; }
int cudaDriverGetVersion(int *version) { *version = driver_version(); return SUCCESS; }
int cudaGetDeviceCount(int *count) {
  *count = 0;
  int status = usable();
  if (status) return status;
  *count = device_count();
  return SUCCESS;
}
int cudaGetDevice(int *device) {
  *device = chosen_device;
  return usable();
}
int cudaSetDevice(int device) {
  int status = usable();
  if (status) return status;
  if (device < 0 || device >= device_count()) return failed(INVALID_DEVICE);
  chosen_device = device;
  return SUCCESS;
}

/* The properties: what is told, where it lies in CUDA 13's struct, and which attribute it is. */
enum { PROPERTIES_SIZE = 1008, TOTAL_MEMORY_AT = 288, NO_FIELD = -1, NO_ATTRIBUTE = -1 };
struct property { int offset, size, attribute; long value; };

#define MAX_PROPERTIES 40
static int properties(struct property *made) {
  int sm = compute_capability(), hopper = sm == 90;
  const struct property all[] = {
    {296, 8, 8, 49152},                              /* shared memory of a block */
    {304, 4, 12, 65536},                             /* registers of a block */
    {308, 4, 10, 32},                                /* threads of a warp */
    {312, 8, 11, 2147483647},                        /* memory pitch */
    {320, 4, 1, 1024},                               /* threads of a block */
    {324, 4, 2, 1024}, {328, 4, 3, 1024}, {332, 4, 4, 64},
    {336, 4, 5, 2147483647}, {340, 4, 6, 65535}, {344, 4, 7, 65535}, /* grid */
    {360, 4, 75, sm / 10}, {364, 4, 76, sm % 10},    /* compute capability */
    {368, 8, 14, 512},                               /* texture alignment */
    {384, 4, 16, hopper ? 132 : 142},                /* multiprocessors */
    {392, 4, 19, 1},                                 /* maps host memory */
    {560, 4, 31, 1},                                 /* concurrent kernels */
    {584, 4, 40, 3},                                 /* copy engines */
    {588, 4, 41, 1},                                 /* unified addresses */
    {592, 4, 37, hopper ? 6144 : 384},               /* bus width */
    {596, 4, 38, hopper ? 62914560 : 100663296},     /* L2 cache */
    {604, 4, 39, hopper ? 2048 : 1536},              /* threads of a multiprocessor */
    {608, 4, 78, 1},                                 /* stream priorities */
    {624, 8, 81, hopper ? 233472 : 102400},          /* shared memory of a multiprocessor */
    {632, 4, 82, 65536},                             /* registers of a multiprocessor */
    {636, 4, 83, 1}, {656, 4, 89, 1},                /* managed memory */
    {668, 4, 95, 1},                                 /* cooperative launches */
    {672, 8, 97, hopper ? 232448 : 101376},          /* shared memory of a block, on request */
    {688, 4, 106, hopper ? 32 : 24},                 /* blocks of a multiprocessor */
    {720, 4, 115, 1},                                /* memory pools */
    {NO_FIELD, 4, 13, 2520000},                      /* clock, kHz */
  };
  memcpy(made, all, sizeof all);
  return sizeof all / sizeof *all;
}

int cudaGetDeviceProperties(char *told, int device) {
  int status = usable();
  if (status) return status;
  if (device < 0 || device >= device_count()) return failed(INVALID_DEVICE);
  struct property all[MAX_PROPERTIES];
  int count = properties(all);
  size_t memory = memory_size();
  memset(told, 0, PROPERTIES_SIZE);
  snprintf(told, 256, "%s", device_name());
  memcpy(told + TOTAL_MEMORY_AT, &memory, sizeof memory);
  for (int i = 0; i < count; i++) {
    if (all[i].offset != NO_FIELD) memcpy(told + all[i].offset, &all[i].value, all[i].size);
  }
  return SUCCESS;
}

int device_attribute(int *value, int attribute) {
  struct property all[MAX_PROPERTIES];
  int count = properties(all);
  *value = 0;
  for (int i = 0; i < count; i++) {
    if (all[i].attribute == attribute) { *value = (int)all[i].value; return SUCCESS; }
  }
  EVENT(others, 0, "device attribute %d is not known here", attribute);
  return SUCCESS;
}
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
  int status = usable();
  if (status) return status;
  if (device < 0 || device >= device_count()) return failed(INVALID_DEVICE);
  return device_attribute(value, attribute);
}
