/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The zygote: a small process that clones the jobs of its supervisor.
 *
 *	zygote SOCKET LOCK
 *
 * The kernel copies the page tables and the descriptors of the process that clones, and each page that
 * either side writes to before the exec. This process has a few pages. Its children are the supervisor's
 * own (CLONE_PARENT), which reaps them; they outlive the zygote.
 *
 * It does not share the memory of the supervisor (CLONE_VM): an OOM kill in the job's cgroup between
 * clone and exec kills every process with that memory.
 *
 * It also holds files of the jobs open until the supervisor requests to drop them, also after the
 * supervisor has died. With the FIFOs, a job gets neither SIGPIPE nor the end of its input as long as one
 * holder is alive; with the master of its terminal, no hang-up. The file position of the spool says how much
 * of the input the job has got. The next supervisor takes both from here (linux/supervisor/left_files.py).
 */
#include "zygote.h"

/* A request brings at most CLONE_FDS + MOST_HELD descriptors, which get the numbers below FIRST_HELD. */
enum { SUPERVISOR = 3, FIRST_HELD = 24 };
enum { CHECK_INTERVAL = 5 };	/* seconds */

static const char *lock_path;
static bool has_lock;
static uint32_t slots;	/* slot N holds its file as descriptor FIRST_HELD + N; none is beyond */

/* --- start */

/* Give a descriptor this number. */
static void place(long fd, int number, int flags)
{
	if (fd == number) {
		sys(fcntl, fd, F_SETFD, flags & O_CLOEXEC ? FD_CLOEXEC : 0);
		return;
	}
	sys(dup3, fd, number, flags);
	sys(close, fd);
}

/* Be in everything that is inherited what a job should be, so that a child has less to do. */
static void settle(int socket)
{
	struct sigaction default_action = { .sa_handler = SIG_DFL };
	uint64_t no_signals = 0;
	struct rlimit64 core;
	long fd;

	sys(rt_sigprocmask, SIG_SETMASK, &no_signals, NULL, sizeof(no_signals));
	/* exec(2) resets handlers, but not ignored signals: Python ignores SIGPIPE and SIGXFSZ. */
	for (int number = 1; number <= 64; number++)
		sys(rt_sigaction, number, &default_action, NULL, sizeof(no_signals));
	sys(umask, 022);
	if (sys(prlimit64, 0, RLIMIT_CORE, NULL, &core) == 0) {
		core.rlim_cur = 0;
		sys(prlimit64, 0, RLIMIT_CORE, &core, NULL);
	}
	/* Lowering it needs CAP_SYS_RESOURCE. Without, it remains what the server's parent has chosen. */
	fd = sys(openat, AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		sys(write, fd, "0", 1);
		sys(close, fd);
	}
	/* The next supervisor takes held files from us (pidfd_getfd(2)), which is tracing to Yama. */
	sys(prctl, PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
	place(socket, SUPERVISOR, O_CLOEXEC);
	sys(close_range, SUPERVISOR + 1, ~0U, 0);
}

/*
 * Take the lock of the generation; end the zygote of a dead supervisor that still has it. The supervisor
 * requests this when we hold the files of that one's jobs: then each file has a second holder all the time.
 */
static void seize_lock(const char *path)
{
	struct flock lock = { .l_type = F_WRLCK }, holder = lock;
	long fd = sys(openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	/* Not SIGTERM: it would stay pending in a stopped process. A pid of 0: in another pid namespace. */
	if (sys(fcntl, fd, F_GETLK, &holder) == 0 && holder.l_type != F_UNLCK && holder.l_pid > 0)
		sys(kill, holder.l_pid, SIGKILL);
	sys(fcntl, fd, F_SETLKW, &lock);
	has_lock = true;
}

/* --- held files */

static void hold(const struct request *request, const int *fds)
{
	for (uint32_t i = 0; i < request->held && i < MOST_HELD; i++) {
		uint32_t slot = request->slots[i];

		if (sys(dup3, fds[i], FIRST_HELD + slot, O_CLOEXEC) >= 0 && slots <= slot)
			slots = slot + 1;
	}
}

static void drop(const struct request *request)
{
	for (uint32_t i = 0; i < request->held && i < MOST_HELD; i++)
		sys(close, FIRST_HELD + request->slots[i]);
}

/* Drop the files that were unlinked: their jobs have ended. Return whether any is left. */
static bool holds_any(void)
{
	bool any = false;

	for (uint32_t slot = 0; slot < slots; slot++) {
		struct stat found;

		if (sys(fstat, FIRST_HELD + slot, &found) < 0)
			continue;
		if (found.st_nlink == 0)
			sys(close, FIRST_HELD + slot);
		else
			any = true;
	}
	return any;
}

/* The supervisor has died. The next one holds the files, then kills us, see seize_lock(). */
static void hold_on(void)
{
	while (holds_any()) {
		/* Again each time: the system call leaves the rest of the time in it, which is 0. */
		struct __kernel_timespec interval = { .tv_sec = CHECK_INTERVAL };

		sys(ppoll, NULL, 0, &interval, NULL, 0);
	}
}

/* --- clone */

static long clone_into(const char *path)
{
	struct clone_args args = {
		/* exit_signal must be 0: that of a sibling is the same as ours. */
		.flags = CLONE_PARENT | CLONE_INTO_CGROUP,
	};
	long cgroup = sys(openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), pid;

	if (cgroup < 0)
		return cgroup;
	args.cgroup = (uint64_t)cgroup;
	pid = sys(clone3, &args, sizeof(args));
	if (pid != 0)
		sys(close, cgroup);
	return pid;
}

/* Clone a child, in which this does not return; return its pid. */
static long clone_child(const struct job *job)
{
	bool join_v2 = false;
	long pid = -ENOSYS;

	if (*job->cgroup) {
		pid = clone_into(job->cgroup);
		/* Linux before 5.7, and seccomp filters of containers, which refuse clone3. */
		join_v2 = pid == -ENOSYS || pid == -EPERM || pid == -E2BIG || pid == -EINVAL;
	}
	if (!*job->cgroup || join_v2)
		pid = sys(clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
	if (pid > 0)
		crash_point("zygote.cloned");
	if (pid == 0) {
		/* Otherwise the supervisor would not notice our death before the exec. */
		sys(close, SUPERVISOR);
		become(job, join_v2);
	}
	return pid;
}

static long clone_job(const int *fds)
{
	struct job job;
	struct stat size;
	long memory, pid;

	for (int i = 0; i < CLONE_FDS; i++)
		job.fds[i] = fds[i];
	if (sys(fstat, fds[FD_PLAN], &size) < 0)
		return -EBADF;
	memory = sys(mmap, NULL, size.st_size, PROT_READ, MAP_PRIVATE, fds[FD_PLAN], 0);
	if (memory < 0 && memory > -4096)
		return memory;
	job.plan = (const struct plan *)memory;
	job.cgroup = cgroup_of(job.plan);
	pid = clone_child(&job);
	sys(munmap, memory, size.st_size);
	return pid;
}

/* --- requests */

static void answer(long pid)
{
	struct answer answer = { .pid = pid > 0 ? (int32_t)pid : 0, .error = pid < 0 ? (int32_t)-pid : 0 };

	/* EPIPE: the supervisor has died meanwhile. */
	sys(sendto, SUPERVISOR, &answer, sizeof(answer), MSG_NOSIGNAL, NULL, 0);
}

static void serve(const struct request *request, const int *fds, size_t count)
{
	const int *held = fds;

	if (request->kind == REQUEST_SEIZE)
		seize_lock(lock_path);
	if (request->kind == REQUEST_DROP)
		drop(request);
	if (request->kind == REQUEST_CLONE) {
		/* Fewer: the kernel drops descriptors that exceed our limit of open files. */
		answer(count < CLONE_FDS ? -EMFILE : clone_job(fds));
		held += CLONE_FDS;
	}
	if (request->kind <= REQUEST_HOLD && held + request->held == fds + count)
		hold(request, held);
	for (size_t i = 0; i < count; i++)
		sys(close, fds[i]);
}

/* Serve one request; return false when the supervisor has closed the connection. */
static bool serve_next(void)
{
	struct {
		struct cmsghdr header;
		int fds[CLONE_FDS + MOST_HELD];
	} control;
	struct request request;
	struct iovec data = { &request, sizeof(request) };
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	long size = sys(recvmsg, SUPERVISOR, &message, MSG_CMSG_CLOEXEC);
	size_t count = 0;

	if (size <= 0)
		return false;
	if (message.msg_controllen >= sizeof(control.header))
		count = (control.header.cmsg_len - sizeof(control.header)) / sizeof(int);
	if (size == sizeof(request))
		serve(&request, control.fds, count);
	return true;
}

void run(int argc, char **argv, char **envp)
{
	int socket = 0;

	if (argc < 3)
		sys(exit_group, 2);
	for (const char *digit = argv[1]; *digit; digit++)
		socket = 10 * socket + *digit - '0';
	enable_crash_points(envp);
	settle(socket);
	lock_path = argv[2];
	while (serve_next())
		;
	/* Without the lock we may not have got all files yet, and the zygote before us still has them. */
	if (has_lock)
		hold_on();
	for (;;)
		sys(exit_group, 0);
}

#ifdef HOSTED
int main(int argc, char **argv, char **envp)
{
	run(argc, argv, envp);
}
#endif
