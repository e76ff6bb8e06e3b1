// SPDX-License-Identifier: MIT
/*
 * Row 3: the functions of libc that allocate for their caller or free what
 * the caller allocated.
 */
#include "check.h"
#include <argz.h>
#include <dirent.h>
#include <dlfcn.h>
#include <glob.h>
#include <iconv.h>
#include <locale.h>
#include <netdb.h>
#include <obstack.h>
#include <pthread.h>
#include <regex.h>
#include <search.h>
#include <wchar.h>
#include <wordexp.h>

#define obstack_chunk_alloc malloc
#define obstack_chunk_free free

static void strings(void)
{
	char *text = strdup("twelve words"), *other = strndup(text, 6);
	wchar_t *wide = wcsdup(L"wide");

	CHECK(!strcmp(text, "twelve words"));
	CHECK(!strcmp(other, "twelve"));
	CHECK(!wcscmp(wide, L"wide"));
	free(wide);
	free(text);
	free(other);
	CHECK(asprintf(&text, "%0*d", 5000, 7) == 5000);
	CHECK(strlen(text) == 5000 && text[4999] == '7');
	text = realloc(text, 100000);
	CHECK(text && text[4999] == '7');
	free(text);
	check_end();
}

static void streams(void)
{
	char *line = NULL, *memory, word[] = "a=1;b=2;";
	size_t room = 0, nr_bytes, i, nr_lines = 0;
	FILE *stream = tmpfile();

	for (i = 0; i < 3000; i++)
		fprintf(stream, "%*zu\n", (int)(i % 700), i);
	rewind(stream);
	while (getline(&line, &room, stream) > 0)
		CHECK(strtoul(line, NULL, 10) == nr_lines++);
	CHECK(nr_lines == 3000);
	fclose(stream);

	stream = fmemopen(word, strlen(word), "r");
	CHECK(getdelim(&line, &room, ';', stream) == 4);
	CHECK(!strcmp(line, "a=1;"));
	fclose(stream);
	free(line);

	stream = open_memstream(&memory, &nr_bytes);
	for (i = 0; i < 50000; i++)
		fprintf(stream, "%zu,", i);
	fclose(stream);
	CHECK(nr_bytes == strlen(memory) && nr_bytes > 200000);
	CHECK(!strcmp(memory + nr_bytes - 6, "49999,"));
	free(memory);

	stream = popen("echo from a child", "r");
	CHECK(stream && fgetc(stream) == 'f');
	CHECK(pclose(stream) == 0);
	check_end();
}

static void scanf_allocates(void)
{
	char *word = NULL, *rest = NULL, text[4001];

	memset(text, 'w', 4000);
	text[4000] = 0;
	CHECK(sscanf(text, "%ms", &word) == 1);
	CHECK(strlen(word) == 4000);
	free(word);
	CHECK(sscanf("k=v w", "%m[^=]=%ms", &word, &rest) == 2);
	CHECK(!strcmp(word, "k") && !strcmp(rest, "v"));
	free(word);
	free(rest);
	check_end();
}

static void paths_and_folders(void)
{
	char *path = realpath("/proc/self/..", NULL), *cwd;
	struct dirent **entries;
	glob_t found;
	wordexp_t words;
	int i, nr;

	CHECK(path && !strcmp(path, "/proc"));
	free(path);
	path = canonicalize_file_name("/usr/../usr/lib");
	CHECK(path && !strcmp(path, "/usr/lib"));
	free(path);
	cwd = getcwd(NULL, 0);
	CHECK(cwd && cwd[0] == '/');
	free(cwd);

	nr = scandir("/etc", &entries, NULL, alphasort);
	CHECK(nr > 10);
	for (i = 0; i < nr; i++)
		free(entries[i]);
	free(entries);

	CHECK(glob("/etc/*", 0, NULL, &found) == 0);
	CHECK(found.gl_pathc > 10);
	globfree(&found);

	setenv("ROW3", "two words", 1);
	CHECK(wordexp("~ $ROW3 /et*", &words, WRDE_NOCMD) == 0);
	CHECK(words.we_wordc == 4);
	wordfree(&words);
	check_end();
}

static void names_of_hosts(void)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST }, *found;
	struct protoent *protocol;

	CHECK(getaddrinfo("192.0.2.7", "80", &hints, &found) == 0);
	freeaddrinfo(found);
	hints.ai_flags = 0;
	if (getaddrinfo("localhost", NULL, &hints, &found) == 0)
		freeaddrinfo(found);
	CHECK(getaddrinfo("192.0.2.7", "no-such-service", &hints, &found));
	protocol = getprotobyname("tcp");
	CHECK(!protocol || protocol->p_proto == 6);
	check_end();
}

static void vectors_of_arguments(void)
{
	char *argz = NULL, *entry = NULL;
	size_t nr_bytes = 0, nr = 0;
	int i;

	for (i = 0; i < 2000; i++)
		CHECK(argz_add(&argz, &nr_bytes, "argument") == 0);
	CHECK(argz_count(argz, nr_bytes) == 2000);
	CHECK(argz_replace(&argz, &nr_bytes, "arg", "long-arg", NULL) == 0);
	while ((entry = argz_next(argz, nr_bytes, entry)))
		nr += !strcmp(entry, "long-argument");
	CHECK(nr == 2000);
	free(argz);
	check_end();
}

static void patterns(void)
{
	regex_t regex;
	int i;

	for (i = 0; i < 50; i++) {
		REQUIRE(regcomp(&regex, "^(a|b)*c{1,20}([[:alpha:]]+)$",
				REG_EXTENDED) == 0);
		CHECK(regexec(&regex, "ababcccxyz", 0, NULL, 0) == 0);
		CHECK(regexec(&regex, "ab9", 0, NULL, 0) == REG_NOMATCH);
		regfree(&regex);
	}
	CHECK(regcomp(&regex, "((", REG_EXTENDED) != 0);
	check_end();
}

static int compare(const void *a, const void *b)
{
	const int *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void obstacks_and_trees(void)
{
	struct obstack stack;
	static int keys[3000];
	void *root = NULL;
	char *first;
	int i;

	obstack_init(&stack);
	first = obstack_copy0(&stack, "first", 5);
	for (i = 0; i < 20000; i++)
		obstack_grow(&stack, "0123456789", 10);
	CHECK(obstack_object_size(&stack) == 200000);
	obstack_finish(&stack);
	CHECK(!strcmp(first, "first"));
	obstack_free(&stack, NULL);

	for (i = 0; i < 3000; i++) {
		keys[i] = i * 7919 % 3001;
		CHECK(tsearch(&keys[i], &root, compare) != NULL);
	}
	for (i = 0; i < 3000; i++)
		CHECK(tdelete(&keys[i], &root, compare) != NULL);
	CHECK(root == NULL);
	check_end();
}

/* qsort() sorts in a buffer from malloc when the array is large. */
static void sorting(void)
{
	int i, nr = 300000, *numbers = malloc(sizeof(int) * (size_t)nr);

	for (i = 0; i < nr; i++)
		numbers[i] = (int)((unsigned)i * 2654435761U >> 4);
	qsort(numbers, (size_t)nr, sizeof(int), compare);
	for (i = 1; i < nr; i++)
		REQUIRE(numbers[i - 1] <= numbers[i]);
	free(numbers);
	check_end();
}

static void loader(void)
{
	void *handle = dlopen("libm.so.6", RTLD_NOW);
	int i;

	CHECK(handle && dlsym(handle, "cos"));
	CHECK(dlsym(handle, "no_such_symbol") == NULL);
	CHECK(strstr(dlerror(), "no_such_symbol") != NULL);
	CHECK(dlclose(handle) == 0);
	for (i = 0; i < 100; i++) {
		CHECK(dlopen("/no/such/library.so", RTLD_LAZY) == NULL);
		CHECK(strstr(dlerror(), "/no/such/library.so") != NULL);
	}
	check_end();
}

static void locales_and_charsets(void)
{
	char in[] = "Gr\xc3\xbc\xc3\x9f" "e", out[64];
	char *from = in, *to = out;
	size_t nr_in = strlen(in), nr_out = sizeof(out);
	locale_t locale;
	iconv_t cd;

	CHECK(setlocale(LC_ALL, "C.UTF-8") != NULL);
	CHECK(setlocale(LC_ALL, "xx_YY.none") == NULL);
	locale = newlocale(LC_ALL_MASK, "C.UTF-8", NULL);
	CHECK(locale != NULL);
	freelocale(duplocale(locale));
	freelocale(locale);
	cd = iconv_open("UTF-16LE", "UTF-8");
	CHECK(cd != (iconv_t)-1);
	CHECK(iconv(cd, &from, &nr_in, &to, &nr_out) == 0);
	CHECK(to - out == 10);
	CHECK(iconv_close(cd) == 0);
	check_end();
}

static void environment(void)
{
	char name[32], *value = malloc(20000);
	int i;

	memset(value, 'v', 19999);
	value[19999] = 0;
	for (i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "ROW3_%d", i);
		CHECK(setenv(name, i % 50 ? "short" : value, 1) == 0);
	}
	free(value);
	CHECK(strlen(getenv("ROW3_450")) == 19999);
	CHECK(putenv((char *)"ROW3_PUT=1") == 0);
	CHECK(unsetenv("ROW3_450") == 0 && !getenv("ROW3_450"));
	CHECK(clearenv() == 0);
	CHECK(setenv("AFTER", "clearenv", 1) == 0);
	CHECK(!strcmp(getenv("AFTER"), "clearenv"));
	check_end();
}

static __thread char thread_block[20000];

static void *thread_body(void *arg)
{
	memset(thread_block, 1, sizeof(thread_block));
	return strdup(arg);
}

static void threads(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	void *text;
	int i;

	for (i = 0; i < 200; i++) {
		pthread_attr_init(&attr);
		pthread_attr_setstacksize(&attr, (size_t)(i % 4 + 1) << 17);
		REQUIRE(!pthread_create(&thread, &attr, thread_body, "text"));
		pthread_attr_destroy(&attr);
		REQUIRE(pthread_join(thread, &text) == 0);
		CHECK(!strcmp(text, "text"));
		free(text);
	}
	check_end();
}

static const struct check_case cases[] = {
	{ "strings", strings },
	{ "streams", streams },
	{ "scanf_allocates", scanf_allocates },
	{ "paths_and_folders", paths_and_folders },
	{ "names_of_hosts", names_of_hosts },
	{ "vectors_of_arguments", vectors_of_arguments },
	{ "patterns", patterns },
	{ "obstacks_and_trees", obstacks_and_trees },
	{ "sorting", sorting },
	{ "loader", loader },
	{ "locales_and_charsets", locales_and_charsets },
	{ "environment", environment },
	{ "threads", threads },
};

CHECK_MAIN(cases)
