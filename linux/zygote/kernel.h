/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's interface. A system call returns its result, or a negative errno.
 *
 * There is no libc: every child would copy the pages that its initialization writes to, and the program
 * must not depend on the libc of the machine. A HOSTED build has one, for the sanitizers of the tests.
 */
#ifndef KERNEL_H
#define KERNEL_H

#include <asm/ioctls.h>
#include <asm/stat.h>
#include <asm/unistd.h>
#include <linux/close_range.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/keyctl.h>
#include <linux/mman.h>
#include <linux/poll.h>
#include <linux/prctl.h>
#include <linux/resource.h>
#include <linux/sched.h>
#include <linux/signal.h>
#include <linux/time_types.h>
#include <linux/types.h>
#include <linux/uio.h>
#include <stddef.h>
#include <stdint.h>

/* Not in the kernel's headers for user space: include/linux/socket.h. */
struct msghdr {
	void *msg_name;
	int msg_namelen;
	struct iovec *msg_iov;
	size_t msg_iovlen;
	void *msg_control;
	size_t msg_controllen;
	unsigned int msg_flags;
};

struct cmsghdr {
	size_t cmsg_len;
	int cmsg_level;
	int cmsg_type;
};

enum { SOL_SOCKET = 1, SCM_RIGHTS = 1 };
enum { MSG_CMSG_CLOEXEC = 0x40000000, MSG_NOSIGNAL = 0x4000 };

#ifdef HOSTED
long syscall(long number, ...);
int *__errno_location(void);

static inline long kernel(long number, long a, long b, long c, long d, long e, long f)
{
	long result = syscall(number, a, b, c, d, e, f);

	return result == -1 ? -*__errno_location() : result;
}
#elif defined(__x86_64__)
static inline long kernel(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
static inline long kernel(long number, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
}
#else
#error "add the system call instruction of this architecture, and its start in start.c"
#endif

/* sys(openat, AT_FDCWD, path, flags): up to six arguments, of any integer or pointer type. */
#define sys(name, ...) sys_(__NR_##name, __VA_ARGS__ __VA_OPT__(,) 0, 0, 0, 0, 0, 0)
#define sys_(number, a, b, c, d, e, f, ...) \
	kernel(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

#endif
