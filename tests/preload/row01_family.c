// SPDX-License-Identifier: MIT
/*
 * Row 1 of the checklist: every function of the malloc family is there, does
 * its work, and comes from one and the same library.
 */
#include "check.h"
#include <dlfcn.h>
#include <malloc.h>

static const char *const family[] = {
	"malloc", "calloc", "realloc", "reallocarray", "free",
	"posix_memalign", "aligned_alloc", "memalign", "valloc", "pvalloc",
	"malloc_usable_size", "malloc_trim", "mallinfo", "mallinfo2",
	"mallopt", "malloc_stats", "malloc_info",
	"__libc_malloc", "__libc_calloc", "__libc_realloc", "__libc_free",
	"__libc_memalign", "__libc_valloc", "__libc_pvalloc",
};

/* glibc 2.36 has these as old versions, or not at all. */
static const char *const beyond_glibc[] = {
	"cfree", "free_sized", "free_aligned_sized", "__posix_memalign",
};

#define NR_OF(array) (sizeof(array) / sizeof((array)[0]))

static void use(void *block, size_t size)
{
	REQUIRE(block != NULL);
	CHECK(malloc_usable_size(block) >= size);
	memset(block, 0x5a, size);
	CHECK(all_bytes(block, 0x5a, size));
}

static void each_allocating_function(void)
{
	size_t i, sizes[] = { 1, 24, 700, 5000, 70000, 3 << 20 };
	void *block;

	for (i = 0; i < NR_OF(sizes); i++) {
		size_t size = opaque(sizes[i]);

		use(block = malloc(size), size);
		free(block);
		use(block = calloc(3, size), 3 * size);
		free(block);
		use(block = realloc(NULL, size), size);
		use(block = realloc(block, 2 * size), 2 * size);
		use(block = reallocarray(block, 3, size), 3 * size);
		free(block);
		CHECK(posix_memalign(&block, 256, size) == 0);
		use(block, size);
		free(block);
		use(block = aligned_alloc(64, size), size);
		free(block);
		use(block = memalign(4096, size), size);
		free(block);
		use(block = valloc(size), size);
		free(block);
		use(block = pvalloc(size), size);
		CHECK(malloc_usable_size(block) >= ((size + 4095) & ~4095UL));
		free(block);
	}
	check_end();
}

static void each_libc_alias(void)
{
	typedef void *(*one)(size_t);
	typedef void *(*two)(size_t, size_t);
	void *(*re)(void *, size_t) = dlsym(RTLD_DEFAULT, "__libc_realloc");
	void (*release)(void *) = dlsym(RTLD_DEFAULT, "__libc_free");
	int (*posix)(void **, size_t, size_t) =
		dlsym(RTLD_DEFAULT, "__posix_memalign");
	void *block;

	REQUIRE(re && release && (posix || !on_pagepool()));
	use(block = ((one)dlsym(RTLD_DEFAULT, "__libc_malloc"))(999), 999);
	use(block = re(block, 40000), 40000);
	free(block);
	use(block = ((two)dlsym(RTLD_DEFAULT, "__libc_calloc"))(9, 99), 891);
	release(block);
	use(block = ((two)dlsym(RTLD_DEFAULT, "__libc_memalign"))(512, 99),
	    99);
	CHECK(aligned_to(block, 512));
	release(block);
	use(block = ((one)dlsym(RTLD_DEFAULT, "__libc_valloc"))(99), 99);
	CHECK(aligned_to(block, 4096));
	release(block);
	use(block = ((one)dlsym(RTLD_DEFAULT, "__libc_pvalloc"))(99), 4096);
	CHECK(aligned_to(block, 4096));
	release(block);
	if (posix) {
		CHECK(posix(&block, 128, 99) == 0);
		use(block, 99);
		release(block);
	}
	release(malloc(10));
	release(NULL);
	check_end();
}

static void old_and_new_free_functions(void)
{
	void (*cfree_)(void *) = dlsym(RTLD_DEFAULT, "cfree");
	void (*sized)(void *, size_t) = dlsym(RTLD_DEFAULT, "free_sized");
	void (*aligned)(void *, size_t, size_t) =
		dlsym(RTLD_DEFAULT, "free_aligned_sized");
	size_t i, sizes[] = { 0, 1, 100, 9000, 100000, 5 << 20 };

	if (!on_pagepool())
		check_skip("glibc 2.36 has none of them");
	REQUIRE(cfree_ && sized && aligned);
	for (i = 0; i < NR_OF(sizes); i++) {
		cfree_(malloc(sizes[i]));
		sized(malloc(sizes[i]), sizes[i]);
		sized(calloc(1, sizes[i]), sizes[i]);
		aligned(aligned_alloc(64, sizes[i]), 64, sizes[i]);
		aligned(aligned_alloc(4096, sizes[i]), 4096, sizes[i]);
	}
	cfree_(NULL);
	sized(NULL, 10);
	aligned(NULL, 64, 10);
	check_end();
}

static const void *home_of(const char *name)
{
	void *address = dlsym(RTLD_DEFAULT, name);
	Dl_info info;

	if (!address || !dladdr(address, &info))
		return NULL;
	return info.dli_fbase;
}

/* Half a family is worse than none: the other half frees with glibc. */
static void all_from_one_library(void)
{
	const void *home = home_of("malloc");
	size_t i;

	REQUIRE(home != NULL);
	for (i = 0; i < NR_OF(family); i++) {
		if (!CHECK(home_of(family[i]) == home))
			check_say("%s is from elsewhere\n", family[i]);
	}
	for (i = 0; on_pagepool() && i < NR_OF(beyond_glibc); i++) {
		if (!CHECK(home_of(beyond_glibc[i]) == home))
			check_say("%s is from elsewhere\n", beyond_glibc[i]);
	}
	CHECK(on_pagepool() == (home != home_of("getpid")));
	check_end();
}

static size_t used_bytes(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

static void mallinfo_counts(void)
{
	size_t i, before = used_bytes(), size = 32 << 20;
	void *block = malloc(size), *head = NULL;
	struct mallinfo old;

	REQUIRE(block != NULL);
	CHECK(used_bytes() >= before + size);
	CHECK(used_bytes() < before + size + size / 4);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	old = mallinfo();
#pragma GCC diagnostic pop
	CHECK((size_t)old.uordblks + (size_t)old.hblkhd >= before + size);
	free(block);
	CHECK(used_bytes() < before + size / 4);
	for (i = 0; i < 10000; i++)
		fill_up_to(&head, 1000, 1);
	CHECK(used_bytes() >= before + 10000 * 1000);
	drop(&head);
	check_end();
}

static void malloc_info_is_xml(void)
{
	char *text = NULL;
	size_t nr_bytes = 0;
	FILE *stream = open_memstream(&text, &nr_bytes);

	REQUIRE(stream != NULL);
	CHECK(malloc_info(1, stream) == EINVAL);
	CHECK(malloc_info(0, stream) == 0);
	CHECK(fclose(stream) == 0);
	CHECK(!strncmp(text, "<malloc version=\"", 17));
	CHECK(strstr(text, "</malloc>") != NULL);
	free(text);
	check_end();
}

static void malloc_trim_gives_back(void)
{
	size_t start = resident_bytes();
	char *blocks[4000];
	size_t i;

	for (i = 0; i < NR_OF(blocks); i++) {
		blocks[i] = malloc(8000);
		memset(blocks[i], 1, 8000);
	}
	CHECK(resident_bytes() > start + (24 << 20));
	for (i = 0; i < NR_OF(blocks); i++)
		free(blocks[i]);
	CHECK(malloc_trim(0) == 0 || malloc_trim(0) == 0);
	CHECK(resident_bytes() < start + (6 << 20));
	check_end();
}

static void tuning_calls_are_accepted(void)
{
	CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1);
	CHECK(mallopt(M_TRIM_THRESHOLD, 1 << 20) == 1);
	CHECK(mallopt(M_ARENA_MAX, 1) == 1);
	malloc_stats();
	CHECK(malloc_usable_size(NULL) == 0);
	free(NULL);
	check_end();
}

static const struct check_case cases[] = {
	{ "each_allocating_function", each_allocating_function },
	{ "each_libc_alias", each_libc_alias },
	{ "old_and_new_free_functions", old_and_new_free_functions },
	{ "all_from_one_library", all_from_one_library },
	{ "mallinfo_counts", mallinfo_counts },
	{ "malloc_info_is_xml", malloc_info_is_xml },
	{ "malloc_trim_gives_back", malloc_trim_gives_back },
	{ "tuning_calls_are_accepted", tuning_calls_are_accepted },
};

CHECK_MAIN(cases)
