/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ZYGOTE_H
#define ZYGOTE_H

#include <stdbool.h>

#include "kernel.h"
#include "plan.h"

/* The job that a child is to become. */
struct job {
	const struct plan *plan;
	const char *cgroup;	/* of v2; "": none */
	int fds[CLONE_FDS];
};

/* zygote.c: never returns, and never returns in a child. */
void run(int argc, char **argv, char **envp) __attribute__((noreturn));

/* child.c: becomes the job in a child just cloned; join_v2: it is not in its v2 cgroup yet. */
void become(const struct job *job, bool join_v2) __attribute__((noreturn));

/* child.c: the v2 cgroup of a plan; "": none */
const char *cgroup_of(const struct plan *plan);

/* crash.c: see linux/crash_points.py. */
void enable_crash_points(char **envp);
void crash_point(const char *name);

#endif
