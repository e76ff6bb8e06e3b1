// SPDX-License-Identifier: MIT
/*
 * Row 2: C++ allocation through the preload: every form of new and delete,
 * the new-handler, std::bad_alloc at the limit and work after it.
 */
#include "check.h"
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

/* clang 14 declares these only with -fsized-deallocation. */
void operator delete(void *block, std::size_t size) noexcept;
void operator delete[](void *block, std::size_t size) noexcept;
void operator delete(void *block, std::size_t size,
		     std::align_val_t align) noexcept;

struct alignas(256) wide {
	char bytes[512];
};

static void plain_and_array_forms()
{
	int *one = new int(7);
	char *many = new char[opaque(100000)];

	CHECK(*one == 7);
	memset(many, 1, 100000);
	delete one;
	delete[] many;
	one = new (std::nothrow) int(8);
	many = new (std::nothrow) char[opaque(10)];
	CHECK(one && *one == 8);
	CHECK(many != nullptr);
	operator delete(one, std::nothrow);
	operator delete[](many, std::nothrow);
	CHECK(opaque_ptr(operator new(0)) != nullptr);
	check_end();
}

static void aligned_and_sized_forms()
{
	auto align = std::align_val_t(4096);
	wide *one = new wide, *many = new wide[5];

	CHECK(aligned_to(one, 256));
	CHECK(aligned_to(many, 256));
	delete one;
	delete[] many;
	one = new (std::nothrow) wide;
	CHECK(one && aligned_to(one, 256));
	delete one;

	for (size_t size : { 1UL, 100UL, 5000UL, 70000UL, 5UL << 20 }) {
		void *block = operator new(size, align);

		CHECK(aligned_to(block, 4096));
		memset(block, 1, size);
		operator delete(block, size, align);
		block = operator new[](size, align, std::nothrow);
		CHECK(block && aligned_to(block, 4096));
		operator delete[](block, align, std::nothrow);
		block = operator new(size, align);
		operator delete(block, align);
		operator delete(operator new(size), size);
		operator delete[](operator new[](size), size);
	}
	check_end();
}

static void containers_and_threads()
{
	std::map<int, std::string> map;
	std::vector<std::thread> threads;
	auto shared = std::make_shared<std::vector<int>>();

	for (int i = 0; i < 20000; i++)
		map[i * 7919 % 20011] = std::string(i % 300, 'x');
	for (int i = 0; i < 4; i++)
		threads.emplace_back([shared] {
			std::vector<std::string> local;

			for (int j = 0; j < 20000; j++)
				local.push_back(std::to_string(j));
			CHECK(local[19999] == "19999");
		});
	for (auto &thread : threads)
		thread.join();
	CHECK(map.size() == 20000);
	check_end();
}

static bool throws_bad_alloc(size_t size)
{
	try {
		operator delete(operator new(size));
	} catch (const std::bad_alloc &) {
		return true;
	}
	return false;
}

static void impossible_sizes_throw()
{
	CHECK(throws_bad_alloc(opaque(SIZE_MAX)));
	CHECK(throws_bad_alloc(opaque(PTRDIFF_MAX)));
	CHECK(operator new(opaque(SIZE_MAX / 2), std::nothrow) == nullptr);
	try {
		CHECK(new long[opaque(SIZE_MAX / 4)] == nullptr);
	} catch (const std::bad_array_new_length &) {
		CHECK(true);
	} catch (const std::bad_alloc &) {
		CHECK(true);
	}
	check_end();
}

/* The last bytes go too, so that the exception itself finds none. */
static void exhaust(void **head)
{
	for (size_t size : { 1UL << 20, 1UL << 16, 1UL << 12, 256UL, 16UL })
		fill(head, size);
}

static void bad_alloc_at_the_limit_and_after()
{
	for (int round = 0; round < 3; round++) {
		void *head = nullptr;

		exhaust(&head);
		CHECK(throws_bad_alloc(100000));
		CHECK(throws_bad_alloc(2 << 20));
		CHECK(new (std::nothrow) char[200000] == nullptr);
		drop(&head);
		CHECK(!throws_bad_alloc(32));
		CHECK(!throws_bad_alloc(limit_bytes() / 2));
	}
	check_end();
}

/* What unwinding needs: an exception that carries text, thrown with nothing
 * left; libstdc++ keeps an emergency pool for the exception object. */
static void other_exceptions_at_the_limit()
{
	std::runtime_error prepared("prepared before");
	void *head = nullptr;
	bool caught = false;

	exhaust(&head);
	try {
		throw prepared;
	} catch (const std::runtime_error &error) {
		caught = !strcmp(error.what(), "prepared before");
	}
	drop(&head);
	CHECK(caught);
	check_end();
}

static void *kept_back;
static unsigned nr_handler_calls;

static void give_back()
{
	nr_handler_calls++;
	if (!kept_back)
		std::set_new_handler(nullptr);
	free(kept_back);
	kept_back = nullptr;
}

static void new_handler_frees_and_new_retries()
{
	void *head = nullptr;
	char *block;

	kept_back = malloc(8 << 20);
	fill(&head, 1 << 20);
	std::set_new_handler(give_back);
	block = new char[4 << 20];
	CHECK(nr_handler_calls == 1);
	CHECK(throws_bad_alloc(limit_bytes()));
	CHECK(nr_handler_calls == 2);
	CHECK(std::get_new_handler() == nullptr);
	delete[] block;
	drop(&head);
	check_end();
}

static void vectors_grow_to_the_limit_and_survive()
{
	std::vector<std::string> rows;
	size_t nr_rows = 0;

	limit_bytes();
	try {
		for (;;) {
			rows.push_back(std::string(1000, 'r'));
			nr_rows++;
		}
	} catch (const std::bad_alloc &) {
		CHECK(rows.size() == nr_rows);
		CHECK(nr_rows && rows.back().size() == 1000);
	}
	CHECK(nr_rows > limit_bytes() / 3000);
	rows.clear();
	rows.shrink_to_fit();
	CHECK(!throws_bad_alloc(limit_bytes() / 2));
	check_end();
}

static const struct check_case cases[] = {
	{ "plain_and_array_forms", plain_and_array_forms },
	{ "aligned_and_sized_forms", aligned_and_sized_forms },
	{ "containers_and_threads", containers_and_threads },
	{ "impossible_sizes_throw", impossible_sizes_throw },
	{ "bad_alloc_at_the_limit_and_after",
	  bad_alloc_at_the_limit_and_after },
	{ "other_exceptions_at_the_limit", other_exceptions_at_the_limit },
	{ "new_handler_frees_and_new_retries",
	  new_handler_frees_and_new_retries },
	{ "vectors_grow_to_the_limit_and_survive",
	  vectors_grow_to_the_limit_and_survive },
};

CHECK_MAIN(cases)
