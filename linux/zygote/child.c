/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that the process of a job does between clone and exec.
 *
 * It is in its v2 cgroup from the first instruction on, and joins those of v1 by itself: no instruction
 * of the command runs outside them.
 *
 * It records itself. The supervisor has written the history under a provisional name; the child adds its
 * pid and renames the file. A supervisor that gives the child up, or that follows a dead one, unlinks the
 * provisional name: either it finds the recorded pid, or the rename fails and the child exits. No child
 * reaches its exec unrecorded, and no gate has to be opened for it.
 *
 * If it never becomes the command, it writes that into the history itself: its supervisor may be dead.
 */
#include "text.h"
#include "zygote.h"

/* The strings after the fixed part of a plan, in order. */
struct cursor {
	const char *next;
};

static const char *take(struct cursor *cursor)
{
	const char *string = cursor->next;

	cursor->next += length_of(string) + 1;
	return string;
}

static struct cursor strings_of(const struct plan *plan)
{
	const struct plan_rlimit *rlimits = (const void *)(plan + 1);
	const uint32_t *groups = (const void *)(rlimits + plan->rlimits);

	return (struct cursor){ (const char *)(groups + plan->groups) };
}

const char *cgroup_of(const struct plan *plan)
{
	return strings_of(plan).next;
}

/* --- failure */

static void fail(const struct job *job, const char *stage, long error) __attribute__((noreturn));

static void fail(const struct job *job, const char *stage, long error)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct text reason = { 0 }, line = { 0 };

	add(&reason, stage);
	add(&reason, " ");
	add_number(&reason, (uint64_t)-error);
	add(&line, "\n{\"never_executed\": \"");
	add_bytes(&line, reason.bytes, reason.length);
	add(&line, "\"}");
	/* The job's own RLIMIT_FSIZE may be in force (signal(7)): then only the supervisor learns the reason. */
	sys(rt_sigaction, SIGXFSZ, &ignore, NULL, sizeof(uint64_t));
	sys(write, job->fds[FD_HISTORY], line.bytes, line.length);
	sys(write, job->fds[FD_ERRORS], reason.bytes, reason.length);
	for (;;)
		sys(exit_group, 127);
}

static long check(const struct job *job, const char *stage, long result)
{
	if (result < 0)
		fail(job, stage, result);
	return result;
}

/* --- steps */

static void join_cgroup(const struct job *job, long directory, const char *file)
{
	long fd = check(job, "cgroup", sys(openat, directory, file, O_WRONLY | O_CLOEXEC));

	check(job, "cgroup", sys(write, fd, "0", 1));	/* 0: the writer itself */
	sys(close, fd);
}

static void join_v2_cgroup(const struct job *job)
{
	long cgroup = check(job, "cgroup", sys(openat, AT_FDCWD, job->cgroup, O_PATH | O_DIRECTORY));

	join_cgroup(job, cgroup, "cgroup.procs");
	sys(close, cgroup);
}

static void join_session_keyring(const struct job *job)
{
	long result = sys(keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);

	/* The user's quota of keys is used up; seccomp of a container; a kernel without keys. */
	if (result != -EDQUOT && result != -EPERM && result != -ENOSYS)
		check(job, "keyring", result);
}

/* Return the start time in clock ticks since boot, as digits: field 22 of proc_pid_stat(5). */
static const char *start_time(const struct job *job, struct text *stat)
{
	long fd = check(job, "record", sys(openat, AT_FDCWD, "/proc/self/stat", O_RDONLY | O_CLOEXEC));
	const char *field = stat->bytes;
	int spaces = 0;

	stat->length = (size_t)check(job, "record", sys(read, fd, stat->bytes, sizeof(stat->bytes) - 1));
	stat->bytes[stat->length] = '\0';
	sys(close, fd);
	/* Field 2 is a name in parentheses, which may itself contain spaces and parentheses. */
	for (size_t i = 0; i < stat->length; i++)
		if (stat->bytes[i] == ')')
			field = stat->bytes + i;
	while (*field && spaces < 20)
		spaces += *field++ == ' ';
	return field;
}

static void record(const struct job *job, const char *provisional, const char *final)
{
	struct text stat, line = { 0 };
	const char *start = start_time(job, &stat), *end = start;
	long written;

	while (*end >= '0' && *end <= '9')
		end++;
	if (end == start)
		fail(job, "record", -EIO);
	add(&line, "\n{\"process\": {\"pid\": ");
	add_number(&line, (uint64_t)sys(getpid));
	add(&line, ", \"start\": ");
	add_bytes(&line, start, (size_t)(end - start));
	add(&line, "}}");
	written = check(job, "record", sys(write, job->fds[FD_HISTORY], line.bytes, line.length));
	if ((size_t)written < line.length)
		fail(job, "record", -ENOSPC);
	crash_point("child.written");
	check(job, "record", sys(renameat, AT_FDCWD, provisional, AT_FDCWD, final));
	crash_point("child.recorded");
}

static void set_limits(const struct job *job)
{
	const struct plan_rlimit *each = (const void *)(job->plan + 1);

	for (uint32_t i = 0; i < job->plan->rlimits; i++, each++) {
		long result = sys(prlimit64, 0, each->resource, &each->soft, NULL);
		struct text stage = { 0 };

		if (result == 0)
			continue;
		add(&stage, "ulimit ");
		add_number(&stage, each->resource);
		fail(job, stage.bytes, result);
	}
}

static void change_user(const struct job *job)
{
	const struct plan *plan = job->plan;
	const uint32_t *groups = (const void *)((const struct plan_rlimit *)(plan + 1) + plan->rlimits);

	if (plan->flags & PLAN_CHANGE_USER) {
		check(job, "user", sys(setgroups, plan->groups, groups));
		check(job, "user", sys(setresgid, plan->gid, plan->gid, plan->gid));
		check(job, "user", sys(setresuid, plan->uid, plan->uid, plan->uid));
	}
	if (plan->flags & PLAN_NO_NEW_PRIVS)
		check(job, "no_new_privs", sys(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

/*
 * Change to the working directory. The components are those of a path that the policy allowed; links were
 * followed for that, and none is now: another user may have put one there meanwhile. One openat2(2) would do,
 * but needs Linux 5.6, and containers whose seccomp filter knows it.
 */
static void change_directory(const struct job *job, const char *first, struct cursor components)
{
	check(job, "working directory", sys(chdir, first));
	for (uint32_t i = 0; i < job->plan->components; i++) {
		long fd = check(job, "working directory",
				sys(openat, AT_FDCWD, take(&components),
				    O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));

		check(job, "working directory", sys(fchdir, fd));
		sys(close, fd);
	}
}

/* Try each executable, as execvpe(3) does; return the errno that describes the failure best. */
static long execute(struct cursor paths, uint32_t count, char **argv, char **envp)
{
	long result = -ENOENT, denied = 0;

	for (uint32_t i = 0; i < count; i++) {
		result = sys(execve, take(&paths), argv, envp);
		if (result == -EACCES)
			denied = result;
		else if (result != -ENOENT && result != -ENOTDIR && result != -ESTALE &&
			 result != -ENODEV && result != -ETIMEDOUT)	/* a directory on a dead network mount */
			return result;
	}
	return denied ? denied : result;
}

static char **skip(struct cursor *cursor, uint32_t count, char **vector)
{
	for (uint32_t i = 0; i < count; i++)
		*vector++ = (char *)take(cursor);
	*vector++ = NULL;
	return vector;
}

void become(const struct job *job, bool join_v2)
{
	const struct plan *plan = job->plan;
	size_t vectors = (plan->argv + plan->envp + 2) * sizeof(char *);
	struct cursor strings = strings_of(plan), components, paths;
	const char *provisional, *final, *working_directory;
	char **argv, **envp;
	long memory;

	take(&strings);
	provisional = take(&strings);
	final = take(&strings);
	working_directory = take(&strings);
	components = strings;
	for (uint32_t i = 0; i < plan->components; i++)
		take(&strings);

	if (join_v2)
		join_v2_cgroup(job);
	for (uint32_t i = 0; i < plan->joins; i++)
		join_cgroup(job, AT_FDCWD, take(&strings));
	crash_point("child.joined");
	check(job, "session", sys(setsid));
	check(job, "descriptors", sys(dup3, job->fds[FD_STDIN], 0, 0));
	check(job, "descriptors", sys(dup3, job->fds[FD_STDOUT], 1, 0));
	check(job, "descriptors", sys(dup3, job->fds[FD_STDERR], 2, 0));
	if (plan->flags & PLAN_TERMINAL)
		check(job, "terminal", sys(ioctl, 0, TIOCSCTTY, 0));
	join_session_keyring(job);

	paths = strings;
	for (uint32_t i = 0; i < plan->paths; i++)
		take(&strings);
	memory = check(job, "memory", sys(mmap, NULL, vectors, PROT_READ | PROT_WRITE,
					  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	argv = (char **)memory;
	envp = skip(&strings, plan->argv, argv);
	skip(&strings, plan->envp, envp);

	record(job, provisional, final);
	set_limits(job);
	change_user(job);
	change_directory(job, working_directory, components);
	crash_point("child.prepared");
	fail(job, "exec", execute(paths, plan->paths, argv, envp));
}
