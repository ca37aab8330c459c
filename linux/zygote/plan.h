/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the supervisor and the zygote exchange. linux/zygote/plan.py packs it; both sides are of the
 * same generation (linux/state/code_digest.py), so there is no version.
 *
 * A request is one message of a SOCK_SEQPACKET socket, with descriptors attached (SCM_RIGHTS). Every
 * clone is answered with one struct answer; the other requests are not answered.
 */
#ifndef PLAN_H
#define PLAN_H

#include <stdint.h>

enum request_kind {
	REQUEST_CLONE = 1,	/* descriptors: enum clone_fd, then those to hold */
	REQUEST_HOLD = 2,	/* descriptors: those to hold */
	REQUEST_DROP = 3,	/* no descriptors: close those that are held */
	REQUEST_SEIZE = 4,	/* no descriptors: end the zygote before this one */
};

/* A job's FIFOs, and the spool of its input (linux/state/job_directory.py), in one request. */
enum { MOST_HELD = 8 };

struct request {
	uint32_t kind;
	uint32_t held;			/* number of files to hold or to drop */
	uint32_t slots[MOST_HELD];	/* of each of them, see FIRST_HELD in zygote.c */
};

/* The descriptors of a child, in the order in which they are sent. */
enum clone_fd {
	FD_PLAN,	/* sealed memfd: struct plan and what follows it */
	FD_HISTORY,	/* the job's history, O_APPEND, under its provisional name */
	FD_ERRORS,	/* write end of a pipe: "STAGE ERRNO" if the child fails; EOF: exec, or death */
	FD_STDIN,
	FD_STDOUT,
	FD_STDERR,
	CLONE_FDS,
};

struct answer {
	int32_t pid;	/* of the child; 0: none */
	int32_t error;	/* errno of clone(2) */
};

enum plan_flags {
	PLAN_CHANGE_USER = 1 << 0,
	PLAN_NO_NEW_PRIVS = 1 << 1,
	PLAN_TERMINAL = 1 << 2,		/* stdin is a terminal, the controlling one of the session */
};

struct plan_rlimit {
	uint64_t resource;
	uint64_t soft;
	uint64_t hard;
};

/*
 * Followed by: plan_rlimit[rlimits], uint32_t[groups], and strings, each ended by NUL:
 * the v2 cgroup (empty: none), the history's provisional and final path, the working directory, the
 * components[components] of the path from there that lead to it without links,
 * v1 files to join[joins], executables to try[paths], argv[argv], envp[envp].
 */
struct plan {
	uint32_t flags;
	uint32_t uid;
	uint32_t gid;
	uint32_t groups;
	uint32_t rlimits;
	uint32_t joins;
	uint32_t paths;
	uint32_t argv;
	uint32_t envp;
	uint32_t components;	/* ten fields: plan_rlimit is aligned */
};

#endif
