// SPDX-License-Identifier: MIT
/*
 * Row 12: plugins, opened in every way, that exchange memory with the program
 * in both directions.  The environment's PLUGINS is the folder they are in.
 */
#include "check.h"
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>

struct plugin {
	void *handle;
	char *(*strdup)(const char *text);
	void *(*malloc)(size_t size);
	void *(*realloc)(void *block, size_t size);
	void (*free)(void *block);
	size_t (*usable)(void *block);
	char *(*getline)(void);
	int (*use_thread_block)(void);
};

static const size_t sizes[] = { 1, 100, 3000, 20000, 200000, 3 << 20 };
#define NR_SIZES (sizeof(sizes) / sizeof(sizes[0]))

static const char *plugin_path(void)
{
	static char path[4096];
	const char *folder = getenv("PLUGINS");

	if (!folder)
		check_skip("PLUGINS is not set");
	snprintf(path, sizeof(path), "%s/row12_plugin.so", folder);
	return path;
}

static void bind_plugin(struct plugin *plugin)
{
	if (!plugin->handle)
		check_say("%s\n", dlerror());
	REQUIRE(plugin->handle != NULL);
	*(void **)&plugin->strdup = dlsym(plugin->handle, "row12_strdup");
	*(void **)&plugin->malloc = dlsym(plugin->handle, "row12_malloc");
	*(void **)&plugin->realloc = dlsym(plugin->handle, "row12_realloc");
	*(void **)&plugin->free = dlsym(plugin->handle, "row12_free");
	*(void **)&plugin->usable = dlsym(plugin->handle, "row12_usable");
	*(void **)&plugin->getline = dlsym(plugin->handle, "row12_getline");
	*(void **)&plugin->use_thread_block =
		dlsym(plugin->handle, "row12_use_thread_block");
	REQUIRE(plugin->strdup && plugin->getline);
}

static void open_plugin(struct plugin *plugin, int flags)
{
	plugin->handle = dlopen(plugin_path(), flags);
	bind_plugin(plugin);
}

static void exchange(struct plugin *plugin)
{
	char *text = strdup("from the program"), *block;
	size_t i;

	plugin->free(text);
	text = plugin->strdup("from the plugin");
	CHECK(!strcmp(text, "from the plugin"));
	text = realloc(text, 5000);
	CHECK(!strcmp(text, "from the plugin"));
	plugin->free(text);
	text = plugin->getline();
	CHECK(!strcmp(text, "a line\n"));
	free(text);
	for (i = 0; i < NR_SIZES; i++) {
		block = plugin->malloc(sizes[i]);
		CHECK(malloc_usable_size(block) >= sizes[i]);
		memset(block, 'p', sizes[i]);
		block = realloc(block, 2 * sizes[i]);
		CHECK(all_bytes(block, 'p', sizes[i]));
		block = plugin->realloc(block, 3 * sizes[i]);
		CHECK(all_bytes(block, 'p', sizes[i]));
		CHECK(plugin->usable(block) >= 3 * sizes[i]);
		free(block);
		plugin->free(memalign(64, sizes[i]));
	}
}

static void opened_in_ways(const int *flags, size_t nr_flags)
{
	size_t i, round;

	for (i = 0; i < nr_flags; i++) {
		for (round = 0; round < 5; round++) {
			struct plugin plugin;
			char *left;

			open_plugin(&plugin, flags[i]);
			exchange(&plugin);
			left = plugin.strdup("outlives the plugin");
			CHECK(dlclose(plugin.handle) == 0);
			CHECK(!strcmp(left, "outlives the plugin"));
			free(left);
		}
	}
}

static void local_and_global(void)
{
	static const int flags[] = {
		RTLD_NOW | RTLD_LOCAL, RTLD_LAZY | RTLD_LOCAL,
		RTLD_NOW | RTLD_GLOBAL,
	};

	opened_in_ways(flags, 3);
	check_end();
}

/* Such a library finds libc's names before ours. */
static void deepbind(void)
{
	static const int flags[] = {
		RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND,
		RTLD_LAZY | RTLD_LOCAL | RTLD_DEEPBIND,
		RTLD_NOW | RTLD_GLOBAL | RTLD_DEEPBIND,
	};

	opened_in_ways(flags, 3);
	check_end();
}

static void opening_and_closing_does_not_grow(void)
{
	struct mallinfo2 start, end;
	struct plugin plugin;
	int i;

	for (i = 0; i < 220; i++) {
		open_plugin(&plugin, RTLD_NOW);
		plugin.use_thread_block();
		CHECK(dlclose(plugin.handle) == 0);
		if (i == 20)
			start = mallinfo2();
	}
	end = mallinfo2();
	CHECK(end.uordblks + end.hblkhd <=
	      start.uordblks + start.hblkhd + 65536);
	check_end();
}

/* A name without a slash is looked up along the run path of the caller. */
static void by_the_run_path_of_the_caller(void)
{
	struct plugin plugin;

	plugin.handle = dlopen("row12_plugin.so", RTLD_NOW | RTLD_DEEPBIND);
	bind_plugin(&plugin);
	exchange(&plugin);
	CHECK(dlclose(plugin.handle) == 0);
	CHECK(dlopen("row12_no_such_plugin.so", RTLD_NOW) == NULL);
	CHECK(strstr(dlerror(), "row12_no_such_plugin.so") != NULL);
	check_end();
}

/* Another namespace has a libc, and a malloc, of its own. */
static void in_a_namespace_of_its_own(void)
{
	struct plugin plugin;
	size_t i;

	plugin.handle = dlmopen(LM_ID_NEWLM, plugin_path(), RTLD_NOW);
	bind_plugin(&plugin);
	plugin.free(plugin.strdup("inside"));
	plugin.free(plugin.getline());
	for (i = 0; i < NR_SIZES; i++) {
		char *block = plugin.malloc(sizes[i]);

		memset(block, 'n', sizes[i]);
		block = plugin.realloc(block, 2 * sizes[i]);
		CHECK(all_bytes(block, 'n', sizes[i]));
		plugin.free(block);
	}
	CHECK(dlclose(plugin.handle) == 0);
	check_end();
}

enum { NR_COPIES = 24 };

static void copy_plugin(const char *from, const char *to)
{
	char buffer[8192];
	int in = open(from, O_RDONLY), out;
	ssize_t nr;

	out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0755);
	REQUIRE(in >= 0 && out >= 0);
	while ((nr = read(in, buffer, sizeof(buffer))) > 0)
		REQUIRE(write(out, buffer, (size_t)nr) == nr);
	close(in);
	close(out);
}

static struct plugin copies[NR_COPIES];

static void *use_copies(void *unused)
{
	int i;

	for (i = 0; i < NR_COPIES; i++) {
		CHECK(copies[i].use_thread_block() == 0);
		CHECK(copies[i].use_thread_block() == 7);
	}
	return unused;
}

/* Many modules with thread-local blocks: ld.so grows its table of them, which
 * it first allocated before there was a malloc. */
static void thread_local_blocks_of_plugins(void)
{
	char path[64] = "/tmp/pagepool-plugin.XXXXXX";
	pthread_t thread;
	int i;

	REQUIRE(mkdtemp(path) != NULL);
	for (i = 0; i < NR_COPIES; i++) {
		char name[100];

		snprintf(name, sizeof(name), "%s/%d.so", path, i);
		copy_plugin(plugin_path(), name);
		copies[i].handle = dlopen(name, RTLD_NOW);
		unlink(name);
		bind_plugin(&copies[i]);
	}
	rmdir(path);
	use_copies(NULL);
	for (i = 0; i < 20; i++) {
		REQUIRE(!pthread_create(&thread, NULL, use_copies, NULL));
		pthread_join(thread, NULL);
	}
	for (i = 0; i < NR_COPIES; i++)
		CHECK(dlclose(copies[i].handle) == 0);
	check_end();
}

static const struct check_case cases[] = {
	{ "local_and_global", local_and_global },
	{ "deepbind", deepbind },
	{ "opening_and_closing_does_not_grow",
	  opening_and_closing_does_not_grow },
	{ "by_the_run_path_of_the_caller", by_the_run_path_of_the_caller },
	{ "in_a_namespace_of_its_own", in_a_namespace_of_its_own },
	{ "thread_local_blocks_of_plugins", thread_local_blocks_of_plugins },
};

CHECK_MAIN(cases)
