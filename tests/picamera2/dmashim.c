/*
 * LD_PRELOAD shim: /dev/udmabuf and /dev/dma_heap/ served by memfds.
 *
 * libcamera's virtual pipeline and picamera2 get their picture buffers from those devices. Machines that only
 * run tests, containers above all, have neither. A memfd can be mapped and passed around just as well; nothing
 * here ever meets a device that does DMA.
 *
 * Devices are recognised by path at open(); the ioctls by number, since no other device of this stage knows them.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

typedef int (*open_fn)(const char *, int, ...);
typedef int (*ioctl_fn)(int, unsigned long, ...);

static int is_buffer_device(const char *path)
{
	return path && (!strcmp(path, "/dev/udmabuf") || !strncmp(path, "/dev/dma_heap/", 14));
}

static int open_or_fake(open_fn real, const char *path, int flags, mode_t mode)
{
	if (is_buffer_device(path))
		return memfd_create("dmashim-device", (flags & O_CLOEXEC) ? MFD_CLOEXEC : 0);
	return real(path, flags, mode);
}

/* open(2) has a third argument only where a file may be created; reading it elsewhere is undefined. */
#define MODE_OF(flags, mode)                                    \
	do {                                                    \
		if ((flags) & (O_CREAT | __O_TMPFILE)) {        \
			va_list args;                           \
			va_start(args, flags);                  \
			(mode) = va_arg(args, mode_t);          \
			va_end(args);                           \
		}                                               \
	} while (0)

int open(const char *path, int flags, ...)
{
	static open_fn real;
	mode_t mode = 0;

	if (!real)
		real = (open_fn)dlsym(RTLD_NEXT, "open");
	MODE_OF(flags, mode);
	return open_or_fake(real, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	static open_fn real;
	mode_t mode = 0;

	if (!real)
		real = (open_fn)dlsym(RTLD_NEXT, "open64");
	MODE_OF(flags, mode);
	return open_or_fake(real, path, flags, mode);
}

static int allocate(struct dma_heap_allocation_data *data)
{
	int fd = memfd_create("dmashim-buffer", MFD_CLOEXEC);

	if (fd < 0)
		return -1;
	if (ftruncate(fd, (off_t)data->len)) {
		int saved = errno;

		close(fd);
		errno = saved;
		return -1;
	}
	data->fd = (uint32_t)fd;
	return 0;
}

int ioctl(int fd, unsigned long request, ...)
{
	static ioctl_fn real;
	va_list args;
	void *argument;

	if (!real)
		real = (ioctl_fn)dlsym(RTLD_NEXT, "ioctl");
	va_start(args, request);
	argument = va_arg(args, void *);
	va_end(args);

	/* Python passes request numbers above 2^31 sign-extended. */
	request &= 0xffffffffUL;
	if (request == UDMABUF_CREATE)
		return fcntl((int)((struct udmabuf_create *)argument)->memfd, F_DUPFD_CLOEXEC, 3);
	if (request == DMA_HEAP_IOCTL_ALLOC)
		return allocate(argument);
	/* Caches are coherent here; DMA_BUF_SET_NAME (ioctl 'b' 1, in two sizes) is only a label. */
	if (request == DMA_BUF_IOCTL_SYNC || (_IOC_TYPE(request) == 'b' && _IOC_NR(request) == 1))
		return 0;
	return real(fd, request, argument);
}
