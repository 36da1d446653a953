/* libcuda: what a program asks the driver before it loads anything else. */
#include <stdio.h>
#include "cuda.h"

int cuInit(unsigned flags) { return device_count() > 0 ? SUCCESS : NO_DEVICE; }
int cuDriverGetVersion(int *version) { *version = driver_version(); return SUCCESS; }
int cuDeviceGetCount(int *count) { *count = device_count(); return SUCCESS; }
int cuDeviceGet(int *device, int number) { *device = number; return SUCCESS; }
int cuDeviceGetName(char *name, int room, int device) {
  snprintf(name, room, "%s", device_name());
  return SUCCESS;
}
int cuDeviceTotalMem_v2(size_t *size, int device) { *size = memory_size(); return SUCCESS; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  return device_attribute(value, attribute);
}
int cuGetErrorString(int status, const char **text) {
  *text = cudaGetErrorString(status);
  return SUCCESS;
}
NOTHING(cuTensorMapEncodeTiled)
