/* SPDX-License-Identifier: Apache-2.0 */
/* Crash points, as in linux/crash_points.py: a test kills this process, or a child, at a step. */
#include "text.h"
#include "zygote.h"

static const char variable[] = "WORKER_CRASH_POINTS=";
static const char *directory;

void enable_crash_points(char **envp)
{
	for (; *envp; envp++) {
		size_t i = 0;

		while (variable[i] && (*envp)[i] == variable[i])
			i++;
		if (!variable[i])
			directory = *envp + i;
	}
}

void crash_point(const char *name)
{
	struct text path = { 0 };

	if (!directory)
		return;
	add(&path, directory);
	add(&path, "/");
	add(&path, name);
	if (sys(unlinkat, AT_FDCWD, path.bytes, 0) == 0)
		sys(kill, sys(getpid), SIGKILL);
}
