/* SPDX-License-Identifier: MIT */
/* slowpath.c - see slowpath.h. */
#include "slowpath.h"

#include "os/os.h"

static void note_time(struct pcp_registry *reg, struct pcp *pcp,
		      uint64_t start_ns)
{
	int64_t took_ns = (int64_t)(os_now_ns() - start_ns);

	if (pcp) {
		pcp_count(pcp, EVENT_SLOWPATH, 1);
		pcp_count(pcp, EVENT_SLOWPATH_NS, took_ns);
	} else {
		add_relaxed(&reg->vmstat->event[EVENT_SLOWPATH], 1);
		add_relaxed(&reg->vmstat->event[EVENT_SLOWPATH_NS], took_ns);
	}
}

static PP_COLD void *alloc_pages_slow(struct pcp_registry *reg,
				      struct pcp *pcp,
				      const struct page_request *req,
				      struct page_result *result)
{
	uint64_t start_ns = os_now_ns();
	void *run = NULL;

	if (result->why != FAILURE_TOO_BIG && !(req->flags & PP_NORETRY)) {
		if (load_relaxed(&reg->has_orphans))
			pcp_adopt_orphans(reg);
		if (pcp)
			pcp_flush(pcp);
		reg->drain_small(reg, NULL);
		run = page_alloc_once(reg, NULL, req, result);
	}
	note_time(reg, pcp, start_ns);
	return run;
}

void *alloc_pages(struct pcp_registry *reg, struct pcp *pcp,
		  const struct page_request *req, struct page_result *result)
{
	void *run = page_alloc_once(reg, pcp, req, result);

	if (likely(run))
		return run;
	return alloc_pages_slow(reg, pcp, req, result);
}
