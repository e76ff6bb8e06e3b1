/* SPDX-License-Identifier: MIT */
/* config.c - see config.h. */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "auto_limit.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/lock.h"
#include "base/strbuf.h"

#define ENV_PREFIX		"PAGEPOOL_"
#define ENV_PREFIX_LEN		(sizeof(ENV_PREFIX) - 1)
#define NAME_MAX_LEN		32
#define LINE_BYTES		512
#define STDERR			2
#define DEFAULT_PURGE_DELAY_NS	10000000000ull
#define DEFAULT_OOM_TIMEOUT_NS	1000000000ull
#define NS_PER_MS		1000000ull

enum setting_kind {
	KIND_LIMIT, KIND_SIZE, KIND_NUMBER, KIND_TIME, KIND_SIGNAL, KIND_BOOL,
	KIND_STATS, KIND_NUMA, KIND_THP, KIND_OOM, KIND_FAULT
};

struct setting {
	const char		*name;
	enum setting_kind	kind;
	size_t			offset;		/* in struct pp_config */
	uint64_t		least, most;
	bool			live;
	const char		*expected;
};

#define FIELD(f)	offsetof(struct pp_config, f)

static const struct setting settings[] = {
	{ "limit", KIND_LIMIT, FIELD(limit_bytes), CONFIG_MIN_LIMIT_BYTES,
	  CONFIG_MAX_LIMIT_BYTES, true,
	  "a size such as 512M, a percentage such as 50%, or auto" },
	{ "min_free", KIND_SIZE, FIELD(min_free_bytes), 0,
	  CONFIG_MAX_LIMIT_BYTES, true, "a size such as 4M, or 0" },
	{ "watermark_scale", KIND_NUMBER, FIELD(watermark_scale), 1, 3000,
	  true, "a number from 1 to 3000" },
	{ "purge_delay", KIND_TIME, FIELD(purge_delay_ns), 0,
	  CONFIG_MAX_DELAY_NS, true, "a time such as 10s or 500ms" },
	{ "oom", KIND_OOM, FIELD(oom), 0, 0, true, "fail or abort" },
	{ "oom_timeout", KIND_TIME, FIELD(oom_timeout_ns), 0,
	  CONFIG_MAX_DELAY_NS, true, "a time such as 1s or 200ms" },
	{ "oom_reserve", KIND_SIZE, FIELD(oom_reserve_bytes), 0,
	  CONFIG_MAX_LIMIT_BYTES, true, "a size such as 1M, or 0" },
	{ "pressure_signal", KIND_SIGNAL, FIELD(pressure_signal), 0,
	  CONFIG_MAX_SIGNAL, true,
	  "a signal such as USR1 or 10, or 0 for none" },
	{ "numa", KIND_NUMA, FIELD(numa), 0, 0, true,
	  "local, interleave, bind:LIST or preferred:N with nodes that this "
	  "process may use" },
	{ "fake_nodes", KIND_NUMBER, FIELD(fake_nodes), 1,
	  CONFIG_MAX_FAKE_NODES, false, "a number from 1 to 16" },
	{ "thp", KIND_THP, FIELD(thp), 0, 0, false, "auto, always or never" },
	{ "stats", KIND_STATS, FIELD(stats_path), 0, 0, false,
	  "exit, or the path of a file" },
	{ "strict", KIND_BOOL, FIELD(strict), 0, 1, false, "0 or 1" },
	{ "verbose", KIND_BOOL, FIELD(verbose), 0, 1, true, "0 or 1" },
	{ "fault", KIND_FAULT, FIELD(fault), 0, 0, false,
	  "nth:N, every:N or share:P%, with times:N, after:N, min_pages:N, "
	  "seed:N or quiet after a comma; or off" },
};

char **config_early_environ;

static struct once pressure_read = ONCE_INIT;
static struct psi_service pressure;	/* const once pressure_read is done */

void config_defaults(struct pp_config *config)
{
	memset(config, 0, sizeof(*config));
	config->watermark_scale = 10;
	config->purge_delay_ns = DEFAULT_PURGE_DELAY_NS;
	config->oom_timeout_ns = DEFAULT_OOM_TIMEOUT_NS;
}

/* Values */

/* Digits; *@rest points behind them. */
static int parse_digits(const char *s, uint64_t *out, const char **rest)
{
	uint64_t n = 0;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	for (; *s >= '0' && *s <= '9'; s++) {
		if (n > (UINT64_MAX - 9) / 10)
			return -ERANGE;
		n = n * 10 + (uint64_t)(*s - '0');
	}
	*out = n;
	*rest = s;
	return 0;
}

static int suffix_shift(char c)
{
	switch (c) {
	case '\0':
		return 0;
	case 'K': case 'k':
		return 10;
	case 'M': case 'm':
		return 20;
	case 'G': case 'g':
		return 30;
	case 'T': case 't':
		return 40;
	default:
		return -EINVAL;
	}
}

static int parse_percent(uint64_t percent, uint64_t *out)
{
	uint64_t memory;

	if (percent < 1 || percent > 100)
		return -ERANGE;
	memory = auto_limit_memory_bytes();
	*out = memory / 100 * percent + memory % 100 * percent / 100;
	return memory ? 0 : -EINVAL;
}

static int parse_size(const char *s, bool percent_ok, uint64_t *out)
{
	const char *rest;
	uint64_t n;
	int shift, err = parse_digits(s, &n, &rest);

	if (err)
		return err;
	if (percent_ok && strcmp(rest, "%") == 0)
		return parse_percent(n, out);
	shift = suffix_shift(*rest);
	if (shift < 0 || (shift && rest[1]))
		return -EINVAL;
	if (n > UINT64_MAX >> shift)
		return -ERANGE;
	*out = n << shift;
	return 0;
}

static int parse_number(const char *s, uint64_t *out)
{
	const char *rest;
	int err = parse_digits(s, out, &rest);

	return err ? err : *rest ? -EINVAL : 0;
}

/* With its unit; 0 needs none. */
static int parse_time(const char *s, uint64_t *out)
{
	const char *rest;
	uint64_t n, unit_ns = NS_PER_MS;
	int err = parse_digits(s, &n, &rest);

	if (err)
		return err;
	if (strcmp(rest, "s") == 0)
		unit_ns *= 1000;
	else if (strcmp(rest, "ms") != 0 && (n || *rest))
		return -EINVAL;
	if (n > UINT64_MAX / unit_ns)
		return -ERANGE;
	*out = n * unit_ns;
	return 0;
}

/* Those that programs may want for it. */
static const struct { const char *name; int number; } signal_names[] = {
	{ "HUP", SIGHUP }, { "USR1", SIGUSR1 }, { "USR2", SIGUSR2 },
	{ "ALRM", SIGALRM }, { "URG", SIGURG }, { "WINCH", SIGWINCH },
	{ "IO", SIGIO }, { "PWR", SIGPWR }, { "CONT", SIGCONT },
};

static int parse_signal(const char *s, uint64_t *out)
{
	if (strncmp(s, "SIG", 3) == 0)
		s += 3;
	for (size_t i = 0; i < ARRAY_SIZE(signal_names); i++)
		if (strcmp(s, signal_names[i].name) == 0) {
			*out = (uint64_t)signal_names[i].number;
			return 0;
		}
	/* No handler can be had for these: libc's own two, and the two that end
	 * and stop. */
	if (strcmp(s, "9") == 0 || strcmp(s, "19") == 0 ||
	    strcmp(s, "32") == 0 || strcmp(s, "33") == 0)
		return -ERANGE;
	return parse_number(s, out);
}

static int set_stats(struct pp_config *config, const char *value)
{
	if (!*value)
		return -EINVAL;
	if (strlen(value) >= CONFIG_PATH_BYTES)
		return -ERANGE;
	config->stats_at_exit = true;
	config->stats_path[0] = '\0';
	if (strcmp(value, "exit") != 0)
		memcpy(config->stats_path, value, strlen(value) + 1);
	return 0;
}

static int parse_nodes(const char *list, struct nodemask *nodes)
{
	int err = nodemask_parse(list, nodes);

	return !err && !nodemask_count(nodes) ? -EINVAL : err;
}

static int set_numa(struct pp_config *config, const char *value)
{
	struct numa_setting numa = { .kind = NUMA_LOCAL, .is_given = true };
	int err = 0;

	if (strcmp(value, "interleave") == 0) {
		numa.kind = NUMA_INTERLEAVE;
	} else if (strncmp(value, "bind:", 5) == 0) {
		numa.kind = NUMA_BIND;
		err = parse_nodes(value + 5, &numa.nodes);
	} else if (strncmp(value, "preferred:", 10) == 0) {
		numa.kind = NUMA_PREFERRED;
		err = parse_nodes(value + 10, &numa.nodes);
		if (!err && nodemask_count(&numa.nodes) > 1)
			err = -EINVAL;
	} else if (strcmp(value, "local") != 0) {
		err = -EINVAL;
	}
	if (!err)
		config->numa = numa;
	return err;
}

/* Which of @names; -EINVAL: none. */
static int find_name(const char *const *names, size_t nr, const char *value)
{
	for (size_t i = 0; i < nr; i++)
		if (strcmp(value, names[i]) == 0)
			return (int)i;
	return -EINVAL;
}

static int set_oom(struct pp_config *config, const char *value)
{
	static const char *const names[] = {
		[OOM_FAIL] = "fail",
		[OOM_ABORT] = "abort",
	};
	int i = find_name(names, ARRAY_SIZE(names), value);

	if (i >= 0)
		config->oom = (enum oom_setting)i;
	return i < 0 ? i : 0;
}

static int set_thp(struct pp_config *config, const char *value)
{
	static const char *const names[] = {
		[THP_AUTO] = "auto",
		[THP_ALWAYS] = "always",
		[THP_NEVER] = "never",
	};

	int i = find_name(names, ARRAY_SIZE(names), value);

	if (i >= 0)
		config->thp = (enum thp_setting)i;
	return i < 0 ? i : 0;
}

static int parse_value(const struct setting *s, const char *value,
		       uint64_t *out)
{
	int err;

	*out = 0;
	if (s->kind == KIND_LIMIT && strcmp(value, "auto") == 0)
		return 0;
	if (s->kind == KIND_LIMIT || s->kind == KIND_SIZE)
		err = parse_size(value, s->kind == KIND_LIMIT, out);
	else if (s->kind == KIND_TIME)
		err = parse_time(value, out);
	else if (s->kind == KIND_SIGNAL)
		err = parse_signal(value, out);
	else
		err = parse_number(value, out);
	if (!err && (*out < s->least || *out > s->most))
		err = -ERANGE;
	return err;
}

static int apply(struct pp_config *config, const struct setting *s,
		 const char *value)
{
	char *field = (char *)config + s->offset;
	uint64_t n;
	int err;

	if (s->kind == KIND_STATS)
		return set_stats(config, value);
	if (s->kind == KIND_NUMA)
		return set_numa(config, value);
	if (s->kind == KIND_THP)
		return set_thp(config, value);
	if (s->kind == KIND_OOM)
		return set_oom(config, value);
	if (s->kind == KIND_FAULT)
		return inject_parse(value, &config->fault);
	err = parse_value(s, value, &n);
	if (err)
		return err;
	if (s->kind == KIND_BOOL)
		*(bool *)field = n != 0;
	else
		*(uint64_t *)(void *)field = n;
	return 0;
}

/* Names */

static const struct setting *find_setting(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		if (strcmp(settings[i].name, name) == 0)
			return &settings[i];
	return NULL;
}

int config_set(struct pp_config *config, const char *name, const char *value)
{
	const struct setting *s = find_setting(name);

	return s ? apply(config, s, value) : -ENOENT;
}

int config_is_live(const char *name)
{
	const struct setting *s = find_setting(name);

	return s ? s->live : -ENOENT;
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned ab = a < b ? a : b;

	return ab < c ? ab : c;
}

/* How many letters to add, drop or change (Levenshtein's distance). */
static unsigned edit_distance(const char *a, const char *b)
{
	unsigned row[NAME_MAX_LEN + 1], diagonal, above;
	size_t la = strlen(a), lb = strlen(b);

	if (la > NAME_MAX_LEN || lb > NAME_MAX_LEN)
		return NAME_MAX_LEN;
	for (unsigned j = 0; j <= lb; j++)
		row[j] = j;
	for (unsigned i = 1; i <= la; i++) {
		diagonal = row[0];
		row[0] = i;
		for (unsigned j = 1; j <= lb; j++) {
			above = row[j];
			row[j] = min3(above + 1, row[j - 1] + 1,
				      diagonal + (a[i - 1] != b[j - 1]));
			diagonal = above;
		}
	}
	return row[lb];
}

static const struct setting *nearest_setting(const char *name)
{
	const struct setting *best = &settings[0];

	for (size_t i = 1; i < ARRAY_SIZE(settings); i++)
		if (edit_distance(name, settings[i].name) <
		    edit_distance(name, best->name))
			best = &settings[i];
	return best;
}

/* The environment */

static void to_lower(char *to, const char *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = from[i] >= 'A' && from[i] <= 'Z' ?
			(char)(from[i] - 'A' + 'a') : from[i];
	to[n] = '\0';
}

static void add_upper(struct strbuf *sb, const char *name)
{
	char c[2] = "";

	for (; *name; name++) {
		c[0] = *name >= 'a' && *name <= 'z' ?
		       (char)(*name - 'a' + 'A') : *name;
		strbuf_str(sb, c);
	}
}

static void report_unknown(const char *entry, size_t len, const char *name)
{
	char text[LINE_BYTES], shown[LINE_BYTES / 2];
	struct strbuf sb = STRBUF(text);

	len = len < sizeof(shown) ? len : sizeof(shown) - 1;
	memcpy(shown, entry, len);
	shown[len] = '\0';
	strbuf_str(&sb, "pagepool: ");
	strbuf_str(&sb, shown);
	strbuf_str(&sb, ": unknown setting; did you mean " ENV_PREFIX);
	add_upper(&sb, nearest_setting(name)->name);
	strbuf_str(&sb, "?\n");
	strbuf_write(&sb, STDERR);
}

static void report_bad(const char *entry, const struct setting *s)
{
	char text[LINE_BYTES];
	struct strbuf sb = STRBUF(text);

	strbuf_str(&sb, "pagepool: ");
	strbuf_str(&sb, entry);
	strbuf_str(&sb, ": expected ");
	strbuf_str(&sb, s->expected);
	strbuf_str(&sb, s->kind == KIND_LIMIT ? "; using auto\n" :
						"; using the default\n");
	strbuf_write(&sb, STDERR);
}

/* One variable; false if there is something wrong with it. */
static bool apply_entry(struct pp_config *config, const char *entry,
			bool report)
{
	const char *equals = strchr(entry, '=');
	char name[NAME_MAX_LEN + 1] = "";
	const struct setting *s;
	size_t len;

	if (!equals)
		return true;
	len = (size_t)(equals - entry) - ENV_PREFIX_LEN;
	to_lower(name, entry + ENV_PREFIX_LEN,
		 len < NAME_MAX_LEN ? len : NAME_MAX_LEN);
	s = find_setting(name);
	if (s && apply(config, s, equals + 1) == 0) {
		if (s->kind == KIND_NUMA)
			config->numa.by_environment = true;
		return true;
	}
	if (report && s)
		report_bad(entry, s);
	else if (report)
		report_unknown(entry, (size_t)(equals - entry), name);
	return false;
}

/* NULL: a set-user-ID program does not take orders from its caller. */
static char **trusted_environ(void)
{
	if (getauxval(AT_SECURE))
		return NULL;
	return environ ? environ : config_early_environ;
}

static const char *value_of(char **env, const char *name)
{
	size_t len = strlen(name);

	for (char **e = env; *e; e++)
		if (strncmp(*e, name, len) == 0 && (*e)[len] == '=')
			return *e + len + 1;
	return NULL;
}

static void read_pressure(void)
{
	char **env = trusted_environ();

	if (env)
		psi_parse_service(&pressure,
				  value_of(env, "MEMORY_PRESSURE_WATCH"),
				  value_of(env, "MEMORY_PRESSURE_WRITE"));
}

const struct psi_service *config_pressure(void)
{
	once_run(&pressure_read, read_pressure);
	return &pressure;
}

unsigned config_from_environment(struct pp_config *config)
{
	static _Atomic bool reported;
	char **env = trusted_environ();
	unsigned nr_bad = 0;
	bool report;

	/* Now: later the program may be changing its environment. */
	config_pressure();
	if (!env)
		return 0;
	report = !xchg_relaxed(&reported, true);
	for (char **e = env; *e; e++)
		if (strncmp(*e, ENV_PREFIX, ENV_PREFIX_LEN) == 0 &&
		    !apply_entry(config, *e, report))
			nr_bad++;
	return nr_bad;
}

void config_report_numa(void)
{
	static _Atomic bool reported;

	if (!xchg_relaxed(&reported, true))
		report_bad(ENV_PREFIX "NUMA", find_setting("numa"));
}

static uint64_t clamp_limit(uint64_t bytes)
{
	return min_u64(max_u64(bytes, CONFIG_MIN_LIMIT_BYTES),
		       CONFIG_MAX_LIMIT_BYTES);
}

uint64_t config_auto_limit_bytes(void)
{
	return clamp_limit(auto_limit_bytes(NULL, NULL));
}

uint64_t config_limit_bytes(const struct pp_config *config)
{
	return config->limit_bytes ? clamp_limit(config->limit_bytes) :
				     config_auto_limit_bytes();
}
