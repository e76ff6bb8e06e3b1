/* SPDX-License-Identifier: MIT */
/*
 * info.c - what the family says about itself, and malloc_trim.
 *
 * Monitors read mallinfo2 and malloc_info, and libsystemd's handler of memory
 * pressure calls malloc_trim: all of it is meant.
 */
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>

#include "backing.h"
#include "preload.h"
#include "show.h"

#define REPORT_BYTES	2048
#define STDERR		2

/* Gives the caller's cache and all spare memory, but for @pad bytes, back to
 * the kernel.  1 if there was any. */
PP_EXPORT int malloc_trim(size_t pad)
{
	struct pp_pool *pool = preload_pool_if_made();
	uint64_t spare, keep = bytes_to_pages_up(pad), purged = 0;
	int saved = errno;
	struct pcp *pcp;

	if (!pool || pool_is_nested(pool))
		return 0;
	pool_drain(pool);
	pcp = pool_enter(pool);
	for_each_zone(zone, pool->zones) {
		spare = zone_spare_pages(zone);
		if (spare > keep)
			purged += backing_purge(zone, ZONE_SPARE_ALL,
						spare - keep);
		keep -= min_u64(keep, spare);
	}
	pool_leave(pcp);
	errno = saved;
	return purged > 0;
}

PP_EXPORT struct mallinfo2 mallinfo2(void)
{
	struct pp_pool *pool = preload_pool();
	struct pp_stats s = { .struct_bytes = sizeof(s) };
	struct mallinfo2 info = { .arena = 0 };
	struct pcp *pcp;
	uint64_t depots;

	if (!pool || pool_is_nested(pool) || show_snapshot(pool, &s))
		return info;
	info.arena = pages_to_bytes((uint64_t)s.backed_pages);
	pcp = pool_enter(pool);
	depots = slab_depot_bytes(&pool->heap);
	pool_leave(pcp);
	info.uordblks = pages_to_bytes((uint64_t)s.used_pages);
	depots = min_u64(depots, info.uordblks);
	info.uordblks -= depots;
	info.usmblks = pages_to_bytes((uint64_t)s.peak_pages);
	info.fsmblks = pages_to_bytes((uint64_t)s.cached_pages) + depots;
	info.keepcost = info.arena - min_u64(info.arena, info.uordblks +
							 info.fsmblks);
	info.fordblks = info.keepcost + info.fsmblks;
	return info;
}

static int to_int(size_t n)
{
	return n > INT_MAX ? INT_MAX : (int)n;
}

/* The old form cannot say more than 2 GiB. */
PP_EXPORT struct mallinfo mallinfo(void)
{
	struct mallinfo2 info = mallinfo2();

	return (struct mallinfo){
		.arena = to_int(info.arena),
		.uordblks = to_int(info.uordblks),
		.usmblks = to_int(info.usmblks),
		.fsmblks = to_int(info.fsmblks),
		.fordblks = to_int(info.fordblks),
		.keepcost = to_int(info.keepcost),
	};
}

/*
 * glibc's parameters are hints about arenas, bins and thresholds that do not
 * exist here: they are taken note of (1) and change nothing.
 */
PP_EXPORT int mallopt(int param, int value PP_UNUSED)
{
	switch (param) {
	case M_MXFAST: case M_TRIM_THRESHOLD: case M_TOP_PAD:
	case M_MMAP_THRESHOLD: case M_MMAP_MAX: case M_CHECK_ACTION:
	case M_PERTURB: case M_ARENA_TEST: case M_ARENA_MAX:
		return 1;
	default:
		return 0;
	}
}

PP_EXPORT void malloc_stats(void)
{
	struct pp_pool *pool = preload_pool();
	char text[REPORT_BYTES];
	struct strbuf sb = STRBUF(text);

	if (!pool || pool_is_nested(pool))
		return;
	sb.len = (size_t)show_report(pool, PP_FORMAT_TEXT, text, sizeof(text));
	strbuf_write(&sb, STDERR);
}

PP_EXPORT int malloc_info(int options, FILE *stream)
{
	struct mallinfo2 info = mallinfo2();

	if (options)
		return EINVAL;
	fprintf(stream,
		"<malloc version=\"1\">\n"
		"<heap nr=\"0\">\n"
		"<total type=\"rest\" count=\"1\" size=\"%zu\"/>\n"
		"<system type=\"current\" size=\"%zu\"/>\n"
		"<system type=\"max\" size=\"%zu\"/>\n"
		"</heap>\n"
		"<total type=\"rest\" count=\"1\" size=\"%zu\"/>\n"
		"<system type=\"current\" size=\"%zu\"/>\n"
		"<system type=\"max\" size=\"%zu\"/>\n"
		"</malloc>\n",
		info.fordblks, info.arena, info.usmblks, info.fordblks,
		info.arena, info.usmblks);
	return 0;
}
