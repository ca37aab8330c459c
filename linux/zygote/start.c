/* SPDX-License-Identifier: Apache-2.0 */
/* What libc would bring: the entry point, and the functions that compilers call by themselves. */
#include "zygote.h"

/* The kernel starts a program with the stack pointer at argc, followed by argv and envp (execve(2)). */
#if defined(__x86_64__)
__asm__(".globl _start\n"
	"_start:\n"
	"	xor %ebp, %ebp\n"
	"	mov %rsp, %rdi\n"
	"	and $-16, %rsp\n"
	"	call start\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n"
	"_start:\n"
	"	mov x29, #0\n"
	"	mov x0, sp\n"
	"	bl start\n");
#endif

void start(long *stack) __attribute__((noreturn, used));

void start(long *stack)
{
	long argc = stack[0];
	char **argv = (char **)(stack + 1);

	run((int)argc, argv, argv + argc + 1);
}

void *memset(void *to, int byte, size_t size)
{
	for (char *each = to; size--; each++)
		*each = (char)byte;
	return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
	for (size_t i = 0; i < size; i++)
		((char *)to)[i] = ((const char *)from)[i];
	return to;
}
