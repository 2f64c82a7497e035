/*
 * Works on a PCI device from a guest's user space: a driver in words.
 *
 *   pcidev sysfs ADDRESS WORD...  by the files of sysfs, interrupts by uio_pci_generic (INTx)
 *   pcidev vfio ADDRESS WORD...   by VFIO behind an IOMMU, which also has MSI, MSI-X and DMA
 *
 * Words are done in order; what they find is printed, a line each. Numbers are as in C.
 *
 *   rW:BAR:OFFSET          reads W bytes (1, 2, 4, 8) of a BAR by mmap
 *   wW:BAR:OFFSET:VALUE    writes them
 *   pW:IOVA:VALUE          writes memory that the device may access (16 MiB at 1 MiB, VFIO only)
 *   gW:IOVA                reads it
 *   fill:IOVA:LENGTH:SEED  fills it with a pattern
 *   same:IOVA:IOVA:LENGTH  compares two pieces of it
 *   use:KIND:COUNT         sets up interrupts: 0 INTx, 1 MSI, 2 MSI-X (VFIO only)
 *   irq:VECTOR:MS          waits for an interrupt; how many came, or "none"
 *   unmask                 lets INTx come again
 *   reset                  resets the device
 *   wait:PATH              waits until there is a file, for two minutes at most
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY_IOVA 0x100000ul
#define MEMORY_SIZE 0x1000000ul
#define MAX_VECTORS 64
#define COMMAND 4
#define COMMAND_INTX_DISABLE 0x400

static const char *address;
static volatile uint8_t *bars[6];
static uint8_t *memory;
static int device = -1, uio = -1, config = -1, kind;
static int events[MAX_VECTORS];

static void fail(const char *what) {
  fprintf(stderr, "pcidev %s: %s: %s\n", address, what, strerror(errno));
  exit(1);
}

static int open_file(const char *name, int flags) {
  char path[256];
  snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/%s", address, name);
  int fd = open(path, flags | O_CLOEXEC);
  if (fd < 0) fail(path);
  return fd;
}

/* A BAR that is smaller than a page may lie anywhere in it. */
static volatile uint8_t *map_resource(int bar) {
  char name[16];
  uint64_t start = 0, end = 0;
  FILE *table = fdopen(open_file("resource", O_RDONLY), "r");
  for (int i = 0; i <= bar; i++)
    if (fscanf(table, "%" SCNx64 " %" SCNx64 " %*x", &start, &end) != 2) fail("resource");
  fclose(table);
  snprintf(name, sizeof name, "resource%d", bar);
  int fd = open_file(name, O_RDWR);
  void *at = mmap(NULL, end - start + 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) fail(name);
  close(fd);
  return (volatile uint8_t *)at + (start & 0xfff);
}

static volatile uint8_t *map_region(int bar) {
  struct vfio_region_info info = { .argsz = sizeof info, .index = bar };
  if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info)) fail("region info");
  void *at = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, info.offset);
  if (at == MAP_FAILED) fail("mmap of a region");
  return at;
}

static volatile uint8_t *bar_at(int bar) {
  if (bar < 0 || bar > 5) fail("no such BAR");
  if (!bars[bar]) bars[bar] = device >= 0 ? map_region(bar) : map_resource(bar);
  return bars[bar];
}

static uint8_t *memory_at(uint64_t iova) {
  if (!memory || iova < MEMORY_IOVA || iova >= MEMORY_IOVA + MEMORY_SIZE) fail("no such memory");
  return memory + (iova - MEMORY_IOVA);
}

static uint64_t load(const volatile void *at, int width) {
  switch (width) {
    case 1: return *(const volatile uint8_t *)at;
    case 2: return *(const volatile uint16_t *)at;
    case 4: return *(const volatile uint32_t *)at;
    default: return *(const volatile uint64_t *)at;
  }
}

static void store(volatile void *at, int width, uint64_t value) {
  switch (width) {
    case 1: *(volatile uint8_t *)at = value; return;
    case 2: *(volatile uint16_t *)at = value; return;
    case 4: *(volatile uint32_t *)at = value; return;
    default: *(volatile uint64_t *)at = value;
  }
}

static void open_sysfs(void) {
  char path[300];
  int fd = open_file("enable", O_WRONLY);
  /* EBUSY: a driver has it enabled. */
  if (write(fd, "1", 1) < 0 && errno != EBUSY) fail("enable");
  close(fd);
  config = open_file("config", O_RDWR);
  for (int i = 0; i < 8 && uio < 0; i++) {
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/uio/uio%d", address, i);
    if (access(path, F_OK)) continue;
    snprintf(path, sizeof path, "/dev/uio%d", i);
    uio = open(path, O_RDWR | O_CLOEXEC);
    if (uio < 0) fail(path);
  }
}

static void open_vfio(void) {
  char link[256], path[300];
  snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/iommu_group", address);
  ssize_t size = readlink(path, link, sizeof link - 1);
  if (size < 0) fail(path);
  link[size] = 0;
  snprintf(path, sizeof path, "/dev/vfio/%s", strrchr(link, '/') + 1);
  int container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
  int group = open(path, O_RDWR | O_CLOEXEC);
  if (container < 0 || group < 0) fail(path);
  if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container)) fail("set container");
  if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU)) fail("set iommu");
  memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail("memory");
  struct vfio_iommu_type1_dma_map map = {
    .argsz = sizeof map, .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
    .vaddr = (uintptr_t)memory, .iova = MEMORY_IOVA, .size = MEMORY_SIZE,
  };
  if (ioctl(container, VFIO_IOMMU_MAP_DMA, &map)) fail("map dma");
  device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address);
  if (device < 0) fail("device fd");
  struct vfio_region_info info = { .argsz = sizeof info, .index = VFIO_PCI_CONFIG_REGION_INDEX };
  if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info)) fail("config info");
  uint16_t command;
  if (pread(device, &command, 2, info.offset + COMMAND) != 2) fail("COMMAND");
  command |= 6; /* memory, bus master */
  if (pwrite(device, &command, 2, info.offset + COMMAND) != 2) fail("COMMAND");
}

static void use_interrupts(int index, int count) {
  char buffer[sizeof(struct vfio_irq_set) + sizeof(events)];
  struct vfio_irq_set *set = (struct vfio_irq_set *)buffer;
  if (device < 0 || count < 1 || count > MAX_VECTORS) fail("interrupts");
  struct vfio_irq_set off = {
    .argsz = sizeof off, .index = kind,
    .flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
  };
  if (events[0] && ioctl(device, VFIO_DEVICE_SET_IRQS, &off)) fail("interrupts off");
  kind = index;
  *set = (struct vfio_irq_set){
    .argsz = sizeof *set + count * sizeof(int), .index = index, .count = count,
    .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
  };
  for (int i = 0; i < count; i++) events[i] = eventfd(0, EFD_CLOEXEC);
  memcpy(set->data, events, count * sizeof(int));
  if (ioctl(device, VFIO_DEVICE_SET_IRQS, set)) fail("set irqs");
}

static void wait_for_interrupt(int vector, int ms) {
  static uint32_t last;
  struct pollfd one = { .fd = device >= 0 ? events[vector] : uio, .events = POLLIN };
  int ready = poll(&one, 1, ms);
  if (ready < 0) fail("poll");
  if (ready == 0) {
    puts("none");
    return;
  }
  uint64_t number = 0;
  if (read(one.fd, &number, device >= 0 ? 8 : 4) < 0) fail("interrupt");
  /* uio counts from the module's start; the first number seen is 1 of ours. */
  uint64_t came = device >= 0 ? number : last ? (uint32_t)number - last : 1;
  last = (uint32_t)number;
  printf("%" PRIu64 "\n", came);
}

static void unmask(void) {
  if (device < 0) {
    uint16_t command;
    if (pread(config, &command, 2, COMMAND) != 2) fail("COMMAND");
    command &= ~COMMAND_INTX_DISABLE;
    if (pwrite(config, &command, 2, COMMAND) != 2) fail("COMMAND");
    return;
  }
  struct vfio_irq_set set = {
    .argsz = sizeof set, .index = kind, .count = 1,
    .flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
  };
  if (ioctl(device, VFIO_DEVICE_SET_IRQS, &set)) fail("unmask");
}

static void reset(void) {
  if (device >= 0 && ioctl(device, VFIO_DEVICE_RESET)) fail("reset");
  if (device >= 0) return;
  int fd = open_file("reset", O_WRONLY);
  if (write(fd, "1", 1) != 1) fail("reset");
  close(fd);
}

static void wait_for_file(const char *path) {
  fflush(stdout);
  for (int i = 0; i < 12000 && access(path, F_OK); i++) usleep(10000);
  if (access(path, F_OK)) fail(path);
}

static void do_word(char *word) {
  uint64_t n[3] = { 0, 0, 0 };
  char *next = strchr(word, ':');
  for (int i = 0; i < 3 && next; i++, next = strchr(next + 1, ':'))
    n[i] = strtoull(next + 1, NULL, 0);
  int width = word[1] - '0';
  if (!strncmp(word, "fill:", 5)) {
    uint8_t *at = memory_at(n[0]);
    for (uint64_t i = 0; i < n[1]; i++) at[i] = (uint8_t)(n[2] + i * 7 + (i >> 8));
  } else if (!strncmp(word, "same:", 5)) {
    puts(memcmp(memory_at(n[0]), memory_at(n[1]), n[2]) ? "different" : "same");
  } else if (!strncmp(word, "use:", 4)) {
    use_interrupts(n[0], n[1]);
  } else if (!strncmp(word, "irq:", 4)) {
    wait_for_interrupt(n[0], n[1]);
  } else if (!strcmp(word, "unmask")) {
    unmask();
  } else if (!strncmp(word, "wait:", 5)) {
    wait_for_file(word + 5);
  } else if (!strcmp(word, "reset")) {
    reset();
  } else if (word[0] == 'r' && width > 0 && width < 9) {
    printf("0x%" PRIx64 "\n", load(bar_at(n[0]) + n[1], width));
  } else if (word[0] == 'w' && width > 0 && width < 9) {
    store(bar_at(n[0]) + n[1], width, n[2]);
  } else if (word[0] == 'p' && width > 0 && width < 9) {
    store(memory_at(n[0]), width, n[1]);
  } else if (word[0] == 'g' && width > 0 && width < 9) {
    printf("0x%" PRIx64 "\n", load(memory_at(n[0]), width));
  } else {
    errno = EINVAL;
    fail(word);
  }
}

int main(int count, char **words) {
  if (count < 3) return 2;
  address = words[2];
  if (!strcmp(words[1], "vfio")) open_vfio();
  else open_sysfs();
  for (int i = 3; i < count; i++) do_word(words[i]);
  return 0;
}
