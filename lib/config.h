/* SPDX-License-Identifier: MIT */
/*
 * config.h - the settings, from the environment and by name (layer 1).
 *
 * One table (config.c) says for each setting what it is called, what values it
 * takes and what to tell who gave another.  The only reader of the
 * environment.
 */
#ifndef PP_CONFIG_H
#define PP_CONFIG_H

#include <stdbool.h>

#include "base/nodemask.h"
#include "inject.h"
#include "os/psi.h"

#define CONFIG_PATH_BYTES	256
#define CONFIG_MIN_LIMIT_BYTES	(4ull << 20)
#define CONFIG_MAX_LIMIT_BYTES	(16ull << 40)
/* sysexits.h EX_CONFIG: what a strict process exits with. */
#define CONFIG_EXIT_STATUS	78

#define CONFIG_MAX_FAKE_NODES	16
#define CONFIG_MAX_DELAY_NS	(86400ull * 1000000000ull)
#define CONFIG_MAX_SIGNAL	64

/* Where memory comes from on a machine with several memory nodes. */
enum numa_kind {
	NUMA_LOCAL,		/* the node of the thread's CPU */
	NUMA_INTERLEAVE,	/* all in turn */
	NUMA_BIND,		/* these nodes only */
	NUMA_PREFERRED,		/* this node first */
};

struct numa_setting {
	enum numa_kind	kind;
	bool		is_given;	/* not the default */
	bool		by_environment;
	struct nodemask	nodes;		/* BIND, PREFERRED */
};

/* Transparent huge pages; see thp.h. */
enum thp_setting { THP_AUTO, THP_ALWAYS, THP_NEVER };

/* What happens to a request that fails. */
enum oom_setting { OOM_FAIL, OOM_ABORT };

struct pp_config {
	uint64_t	limit_bytes;		/* 0: auto */
	uint64_t	min_free_bytes;		/* 0: by the formula */
	uint64_t	watermark_scale;	/* 1/10000 of managed */
	uint64_t	purge_delay_ns;
	uint64_t	oom_timeout_ns;		/* a request waits at most */
	uint64_t	oom_reserve_bytes;	/* 0: by the formula */
	enum oom_setting oom;
	uint64_t	pressure_signal;	/* 0: none */
	bool		strict;
	bool		verbose;
	bool		stats_at_exit;
	char		stats_path[CONFIG_PATH_BYTES];	/* "": stderr */
	uint64_t	fake_nodes;		/* 0: those of the machine */
	struct numa_setting numa;
	enum thp_setting thp;
	struct inject_rule fault;
};

/* Where the environment lies while libc has not been initialised and environ is
 * NULL.  Set by the preload library before the first pool, or NULL. */
extern char **config_early_environ;

void config_defaults(struct pp_config *config);

/*
 * Applies the PAGEPOOL_ variables and reports what is wrong with them, once in
 * the life of the process.  Returns the number of problems.
 */
unsigned config_from_environment(struct pp_config *config);

/* What the service manager says about memory pressure; see os/psi.h. */
const struct psi_service *config_pressure(void);

/* 0, -ENOENT, -EINVAL or -ERANGE. */
int config_set(struct pp_config *config, const char *name, const char *value);

/* Can the setting change while a pool lives?  -ENOENT if there is none. */
int config_is_live(const char *name);

/* Says once on standard error that PAGEPOOL_NUMA names nodes that are not
 * there. */
void config_report_numa(void);

/* The limit in bytes, with "auto" worked out. */
uint64_t config_limit_bytes(const struct pp_config *config);

/*
 * What "auto" is at this moment: control groups may be given other limits, and
 * processes put into other groups.  Some dozen microseconds; opens files, so a
 * thread other than the program's own needs descriptors of its own first: a
 * program may count on the number that its next one gets.
 */
uint64_t config_auto_limit_bytes(void);

#endif
