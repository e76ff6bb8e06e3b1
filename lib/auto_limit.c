/* SPDX-License-Identifier: MIT */
/* auto_limit.c - see auto_limit.h. */
#include "auto_limit.h"

#include <sys/resource.h>

#include "base/bits.h"
#include "os/cgroup.h"
#include "os/os.h"

#define HEADROOM_SHARE		8
#define HEADROOM_MIN_BYTES	(16ull << 20)
#define HEADROOM_MAX_SHARE	4
#define DATA_SHARE		4
#define ADDRESS_SHARE		2
/* Where nothing at all can be found out: any machine has that. */
#define UNKNOWN_BYTES		(256ull << 20)

struct search {
	auto_limit_visit_fn	*visit;
	void			*arg;
	uint64_t		smallest_bytes;
};

static void consider(struct search *s, const char *name, const char *path,
		     uint64_t bytes, uint64_t headroom_bytes)
{
	const struct auto_limit_source source = {
		name, path, bytes, headroom_bytes,
	};

	if (s->visit)
		s->visit(s->arg, &source);
	if (bytes != AUTO_LIMIT_NONE)
		s->smallest_bytes = min_u64(s->smallest_bytes,
					    bytes - headroom_bytes);
}

uint64_t auto_limit_headroom_bytes(uint64_t bytes)
{
	uint64_t headroom = max_u64(bytes / HEADROOM_SHARE, HEADROOM_MIN_BYTES);

	return min_u64(headroom, bytes / HEADROOM_MAX_SHARE);
}

static void consider_group(void *arg, const struct cgroup_limit *limit)
{
	consider(arg, limit->file, limit->path, limit->bytes,
		 auto_limit_headroom_bytes(limit->bytes));
}

static void consider_rlimit(struct search *s, const char *name, int resource,
			    unsigned share)
{
	uint64_t bytes = os_rlimit_bytes(resource);

	consider(s, name, NULL, bytes, bytes / share);
}

uint64_t auto_limit_bytes(auto_limit_visit_fn *visit, void *arg)
{
	struct search s = { visit, arg, AUTO_LIMIT_NONE };
	uint64_t machine = os_machine_bytes();

	cgroup_walk("", consider_group, &s);
	consider_rlimit(&s, "RLIMIT_AS", RLIMIT_AS, ADDRESS_SHARE);
	consider_rlimit(&s, "RLIMIT_DATA", RLIMIT_DATA, DATA_SHARE);
	machine = machine ? machine : AUTO_LIMIT_NONE;
	consider(&s, "physical memory", NULL, machine,
		 auto_limit_headroom_bytes(machine));
	return s.smallest_bytes == AUTO_LIMIT_NONE ? UNKNOWN_BYTES :
						     s.smallest_bytes;
}

uint64_t auto_limit_memory_bytes(void)
{
	uint64_t machine = os_machine_bytes();
	uint64_t group = cgroup_limit_bytes("");

	machine = min_u64(machine ? machine : AUTO_LIMIT_NONE, group);
	return machine == AUTO_LIMIT_NONE ? 0 : machine;
}
