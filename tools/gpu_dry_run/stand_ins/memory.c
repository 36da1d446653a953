/* Device memory is host memory that is known by its address; copies copy. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "cuda.h"

#define PAGE 4096
#define PAGES(size) (((size) + PAGE - 1) / PAGE * PAGE)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct region { char *start; size_t size; enum place place; int device; } *regions;
static size_t region_count, region_room;
static size_t used[MAX_DEVICES], peak[MAX_DEVICES];

void dry_run_memory(int device, size_t *now, size_t *most) {
  *now = used[device];
  *most = peak[device];
}

static void remember(char *start, size_t size, enum place place) {
  int device = current_device();
  pthread_mutex_lock(&lock);
  if (region_count == region_room) {
    region_room = region_room ? 2 * region_room : 1024;
    regions = realloc(regions, region_room * sizeof *regions);
  }
  regions[region_count++] = (struct region){start, size, place, device};
  if (place == DEVICE) {
    used[device] += size;
    if (used[device] > peak[device]) peak[device] = used[device];
  }
  pthread_mutex_unlock(&lock);
}

static size_t forget(char *start) { /* its size; 0: not ours */
  size_t size = 0;
  pthread_mutex_lock(&lock);
  for (size_t i = region_count; i-- > 0 && !size; ) {
    if (regions[i].start != start) continue;
    size = regions[i].size;
    if (regions[i].place == DEVICE) used[regions[i].device] -= size;
    regions[i] = regions[--region_count];
  }
  pthread_mutex_unlock(&lock);
  return size;
}

static enum place find(const char *address, int *device) {
  enum place place = PAGEABLE;
  *device = 0;
  pthread_mutex_lock(&lock);
  for (size_t i = region_count; i-- > 0; ) { /* the newest first: they are asked for most */
    if (address < regions[i].start || address >= regions[i].start + regions[i].size) continue;
    place = regions[i].place;
    *device = regions[i].device;
    break;
  }
  pthread_mutex_unlock(&lock);
  return place;
}

enum place place_of(const void *address) { int device; return find(address, &device); }

static int take(void **made, size_t size, const char *how) {
  int status = usable();
  if (status) return status;
  int wanted = dry_run_failure("malloc");
  if (wanted) return failed(wanted);
  size = PAGES(size ? size : 1);
  if (used[current_device()] + size > memory_size()) {
    EVENT(failures, size, "out of memory");
    return failed(OUT_OF_MEMORY);
  }
  /* Pages are taken from the host when they are first written. */
  void *start = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) return failed(OUT_OF_MEMORY);
  remember(start, size, DEVICE);
  EVENT(allocations, size, "%s", how);
  *made = start;
  return SUCCESS;
}
static int give_back(void *start) {
  size_t size = start ? forget(start) : 0;
  if (!size) return SUCCESS;
  munmap(start, size);
  EVENT(frees, size, "");
  return SUCCESS;
}

int cudaMalloc(void **made, size_t size) {
  int status = unsafe_in_capture("cudaMalloc");
  return status ? status : take(made, size, "cudaMalloc");
}
int cudaMallocFromPoolAsync(void **made, size_t size, void *pool, stream_t stream) {
  int status = queue(stream, "cudaMallocFromPoolAsync");
  return status ? status : take(made, size, "from a pool");
}
int cudaFree(void *start) {
  int status = unsafe_in_capture("cudaFree");
  return status ? status : give_back(start);
}
int cudaFreeAsync(void *start, stream_t stream) {
  int status = queue(stream, "cudaFreeAsync");
  return status ? status : give_back(start);
}

int cudaHostAlloc(void **made, size_t size, unsigned flags) {
  int status = unsafe_in_capture("cudaHostAlloc");
  if (status || (status = usable())) return status;
  size = PAGES(size ? size : 1);
  *made = aligned_alloc(PAGE, size);
  remember(*made, size, PINNED);
  EVENT(pinned_allocations, size, "");
  return SUCCESS;
}
int cudaMallocHost(void **made, size_t size) { return cudaHostAlloc(made, size, 0); }
int cudaFreeHost(void *start) {
  int status = unsafe_in_capture("cudaFreeHost");
  if (status) return status;
  size_t size = forget(start);
  free(start);
  EVENT(pinned_frees, size, "");
  return SUCCESS;
}

int cudaMemGetInfo(size_t *available, size_t *total) {
  int status = usable();
  if (status) return status;
  *total = memory_size();
  *available = *total - used[current_device()];
  return SUCCESS;
}

struct pointer_facts { int kind, device; void *on_device, *on_host; };
int cudaPointerGetAttributes(struct pointer_facts *told, const void *address) {
  enum { UNREGISTERED = 0, ON_HOST = 1, ON_DEVICE = 2, FACTS_SIZE = 88 };
  static const int kinds[] = {[PAGEABLE] = UNREGISTERED, [DEVICE] = ON_DEVICE, [PINNED] = ON_HOST};
  memset(told, 0, FACTS_SIZE);
  enum place place = find(address, &told->device);
  told->kind = kinds[place];
  told->on_device = place == PAGEABLE ? NULL : (void *)address;
  told->on_host = place == PINNED ? (void *)address : NULL;
  return SUCCESS;
}

int cudaMemPoolCreate(void **pool, const void *wanted) { *pool = malloc(1); return SUCCESS; }
int cudaMemPoolDestroy(void *pool) { free(pool); return SUCCESS; }
int cudaMemPoolGetAttribute(void *pool, int name, void *value) {
  memset(value, 0, sizeof(uint64_t));
  return SUCCESS;
}
NOTHING(cudaMemPoolSetAttribute)
NOTHING(cudaMemPoolTrimTo)

static int record_copy(const void *to, const void *from, size_t size, const char *how) {
  int to_device, from_device;
  enum place target = find(to, &to_device), source = find(from, &from_device);
  enum event_kind kind =
    target == DEVICE && source == DEVICE ? d2d :
    target == DEVICE ? (source == PINNED ? h2d_pinned : h2d_pageable) :
    source == DEVICE ? (target == PINNED ? d2h_pinned : d2h_pageable) : h2h;
  EVENT(kind, size, "%s", how);
  if (kind == d2d && to_device != from_device) EVENT(across, size, "%s", how);
  int wanted = dry_run_failure("copy");
  return wanted ? failed(wanted) : SUCCESS;
}
static int queue_copy(const void *to, const void *from, size_t size, stream_t stream,
                      const char *how) {
  int status = record_copy(to, from, size, how);
  if (status || (status = queue(stream, how))) return status;
  int pageable = place_of(to) == PAGEABLE || place_of(from) == PAGEABLE;
  if (pageable && in_capture(stream)) EVENT(captured_pageable, size, "%s", how);
  return SUCCESS;
}

int cudaMemcpy(void *to, const void *from, size_t size, int direction) {
  int status = record_copy(to, from, size, "cudaMemcpy");
  if (status || (status = unsafe_in_capture("cudaMemcpy"))) return status;
  memmove(to, from, size);
  return SUCCESS;
}
int cudaMemcpyAsync(void *to, const void *from, size_t size, int direction, stream_t stream) {
  int status = queue_copy(to, from, size, stream, "cudaMemcpyAsync");
  if (!status) memmove(to, from, size);
  return status;
}
int cudaMemcpy2DAsync(char *to, size_t to_pitch, const char *from, size_t from_pitch, size_t width,
                      size_t height, int direction, stream_t stream) {
  int status = queue_copy(to, from, width * height, stream, "cudaMemcpy2DAsync");
  for (size_t row = 0; !status && row < height; row++) {
    memmove(to + row * to_pitch, from + row * from_pitch, width);
  }
  return status;
}
int cudaMemcpyFromSymbol(void *to, const void *symbol, size_t size, size_t offset, int direction) {
  memset(to, 0, size);
  return SUCCESS;
}
static void fill(char *start, int value, size_t size) {
  size_t pages = (uintptr_t)start % PAGE || value ? 0 : size / PAGE * PAGE;
  if (pages) madvise(start, pages, MADV_DONTNEED); /* zeros that take no memory of the host */
  memset(start + pages, value, size - pages);
}
int cudaMemset(void *start, int value, size_t size) {
  EVENT(memsets, size, "cudaMemset");
  int status = unsafe_in_capture("cudaMemset");
  if (!status) fill(start, value, size);
  return status;
}
int cudaMemsetAsync(void *start, int value, size_t size, stream_t stream) {
  EVENT(memsets, size, "cudaMemsetAsync");
  int status = queue(stream, "cudaMemsetAsync");
  if (!status) fill(start, value, size);
  return status;
}
