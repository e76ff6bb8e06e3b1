// SPDX-License-Identifier: MIT
/*
 * C++ at the limit: a program whose small objects fill the pool, so that the
 * exception, the text that says what happened and the containers that the
 * text is kept in have to come out of what a failed thread is left.
 *
 * Every case fills the pool with nodes and strings of many sizes until none
 * is to be had, and uses most of the limit once more in the end.
 */
#include "check.h"
#include <atomic>
#include <chrono>
#include <deque>
#include <forward_list>
#include <iomanip>
#include <map>
#include <memory>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

using clock_type = std::chrono::steady_clock;

static constexpr auto grace = std::chrono::milliseconds(80);
static constexpr size_t large_bytes = 1 << 20;
static constexpr int max_attempts = 30;

/* The stand-in for the limit on libc's malloc leaves nothing for messages. */
static void need_pool()
{
	if (!on_pagepool())
		check_skip("libc's malloc keeps nothing for the error path");
}

/* Raw blocks, linked through themselves: filling allocates nothing else. */
class ballast {
public:
	ballast() = default;
	ballast(const ballast &) = delete;
	ballast &operator=(const ballast &) = delete;
	~ballast() { drop(&head); }

	/* Until nothing of any size is left, whoever waits for it: what a
	 * failure leaves to the thread is over before the next size. */
	void fill_all()
	{
		for (size_t size : { large_bytes, 1UL << 16, 20000UL, 2000UL,
				     1000UL, 500UL, 250UL, 160UL, 100UL, 64UL,
				     48UL, 32UL }) {
			fill(&head, size);
			std::this_thread::sleep_until(clock_type::now() +
						      1.6 * grace);
		}
	}

	void give() { drop(&head); }

private:
	void *head = nullptr;
};

static bool most_of_the_limit_is_there()
{
	std::unique_ptr<char[]> block(new (std::nothrow)
				      char[limit_bytes() / 10 * 8]);

	return block != nullptr;
}

static void throw_bad_alloc()
{
	/* A pair that nobody looks at may be left out. */
	delete[] static_cast<char *>(opaque_ptr(new char[opaque(large_bytes)]));
}

/* What an error path does: text, a copy of it, an entry in a log. */
static std::string describe(const std::exception &error)
{
	std::map<std::string, std::string> fields;
	std::ostringstream out;

	fields["what"] = error.what();
	fields["where"] = "a place whose name is longer than a short string";
	fields["asked"] = std::to_string(large_bytes) + " bytes";
	for (const auto &[name, value] : fields)
		out << std::setw(10) << name << '=' << std::quoted(value) << ' ';
	return out.str();
}

static bool is_described(const std::string &text)
{
	return text.find("\"std::bad_alloc\"") != std::string::npos &&
	       text.find("1048576 bytes") != std::string::npos;
}

/*
 * Does the error path work?  Where it found no memory either, that counts if
 * it was in time; the program goes on in any case.
 */
template <typename Path> static bool error_path_works(Path path)
{
	for (int i = 0; i < max_attempts; i++) {
		auto start = clock_type::now();

		try {
			throw_bad_alloc();
			return false;
		} catch (const std::bad_alloc &error) {
			try {
				return path(error);
			} catch (const std::bad_alloc &) {
				if (clock_type::now() - start < grace)
					return false;
			}
		}
	}
	return false;
}

static void what_is_formatted_into_a_string()
{
	ballast full;

	need_pool();
	full.fill_all();
	for (int round = 0; round < 5; round++)
		CHECK(error_path_works([](const std::exception &error) {
			return is_described(describe(error));
		}));
	full.give();
	CHECK(most_of_the_limit_is_there());
	check_end();
}

struct request_error : std::runtime_error {
	using std::runtime_error::runtime_error;
};

static void rethrow_with_more()
{
	try {
		throw_bad_alloc();
	} catch (const std::bad_alloc &error) {
		std::throw_with_nested(request_error(
			"the request could not be served: " +
			describe(error)));
	}
}

static std::string all_of(const std::exception &error)
{
	std::string text = error.what();

	try {
		std::rethrow_if_nested(error);
	} catch (const std::exception &inner) {
		text += " because of " + all_of(inner);
	}
	return text;
}

/* A new exception of another type, with the old one inside of it. */
static void exceptions_nest()
{
	bool made = false;
	ballast full;

	need_pool();
	full.fill_all();
	for (int i = 0; i < max_attempts && !made; i++) {
		auto start = clock_type::now();

		try {
			rethrow_with_more();
		} catch (const request_error &error) {
			std::string text = all_of(error);

			made = text.rfind("because of std::bad_alloc") !=
			       std::string::npos && is_described(text);
			CHECK(made);
		} catch (const std::bad_alloc &) {
			if (!CHECK(clock_type::now() - start >= grace))
				break;
		}
	}
	CHECK(made);
	full.give();
	CHECK(most_of_the_limit_is_there());
	check_end();
}

/* make_shared, exception_ptr, function objects: a result for the caller. */
static void a_result_is_handed_over()
{
	struct reply {
		int status;
		std::string text;
		std::vector<std::string> log;
		std::exception_ptr error;
	};
	ballast full;

	need_pool();
	full.fill_all();
	CHECK(error_path_works([](const std::exception &error) {
		auto answer = std::make_shared<reply>();
		std::weak_ptr<reply> again = answer;

		answer->status = 503;
		answer->text = describe(error);
		for (int i = 0; i < 8; i++)
			answer->log.push_back(answer->text.substr(i * 10, 40));
		answer->error = std::current_exception();
		return again.lock() && is_described(answer->text) &&
		       answer->log.size() == 8 && answer->error;
	}));
	CHECK(error_path_works([](const std::exception &) {
		return !opaque_ptr(new (std::nothrow)
				   char[opaque(large_bytes)]);
	}));
	full.give();
	CHECK(most_of_the_limit_is_there());
	check_end();
}

/* Grows a container until bad_alloc, and says so in words. */
template <typename Grow> static bool grows_to_the_limit(Grow grow)
{
	std::string text;

	try {
		for (unsigned i = 0;; i++)
			grow(i);
	} catch (const std::bad_alloc &error) {
		try {
			text = describe(error);
		} catch (const std::bad_alloc &) {
			return false;
		}
	}
	return is_described(text);
}

/*
 * Containers of small nodes fill the pool, and are whole after the exception.
 * One try in five may be late.
 */
template <typename Make> static void fill_with(Make make)
{
	int nr_described = 0;

	for (int round = 0; round < 5; round++) {
		/* What looking at the container may need. */
		std::unique_ptr<char[]> room(new char[large_bytes]);
		auto container = make();
		unsigned nr = 0;
		bool told = grows_to_the_limit([&](unsigned i) {
			container.add(i);
			nr = i + 1;
		});

		nr_described += told;
		room.reset();
		CHECK(nr > limit_bytes() / 2000);
		CHECK(container.is_whole(nr));
	}
	CHECK(nr_described >= 4);
	CHECK(most_of_the_limit_is_there());
}

static std::string text_of(unsigned i)
{
	return std::string(20 + i % 200, static_cast<char>('a' + i % 26));
}

struct map_of_strings {
	std::map<unsigned, std::string> all;

	void add(unsigned i) { all.emplace(i, text_of(i)); }
	bool is_whole(unsigned nr)
	{
		return all.size() == nr && all.rbegin()->second ==
		       text_of(nr - 1);
	}
};

struct vector_of_strings {
	std::vector<std::string> all;

	void add(unsigned i) { all.push_back(text_of(i)); }
	bool is_whole(unsigned nr)
	{
		return all.size() == nr && all.back() == text_of(nr - 1);
	}
};

struct hash_of_shared {
	std::unordered_map<std::string, std::shared_ptr<unsigned>> all;

	void add(unsigned i)
	{
		all.emplace("the key number " + std::to_string(i),
			    std::make_shared<unsigned>(i));
	}
	bool is_whole(unsigned nr)
	{
		return all.size() == nr && *all.at("the key number " +
						   std::to_string(nr - 1)) ==
		       nr - 1;
	}
};

struct lists_in_a_deque {
	std::deque<std::forward_list<unsigned>> all;

	void add(unsigned i) { all.emplace_back(8, i); }
	bool is_whole(unsigned nr)
	{
		return all.size() == nr && all.back().front() == nr - 1;
	}
};

static void maps_fill_the_pool()
{
	need_pool();
	fill_with([] { return map_of_strings(); });
	check_end();
}

static void vectors_fill_the_pool()
{
	need_pool();
	fill_with([] { return vector_of_strings(); });
	check_end();
}

static void hashes_fill_the_pool()
{
	need_pool();
	fill_with([] { return hash_of_shared(); });
	check_end();
}

static void deques_fill_the_pool()
{
	need_pool();
	fill_with([] { return lists_in_a_deque(); });
	check_end();
}

/*
 * A new-handler that frees a little each time, and complains in words.  The
 * words may fail as well, and call it again.
 */
static std::vector<std::unique_ptr<char[]>> *spare;
static std::string *complaint;
static int nr_calls, nr_speechless;
static bool is_complaining;

static void complain()
{
	if (is_complaining)
		throw std::bad_alloc();
	is_complaining = true;
	try {
		*complaint = std::string();
		*complaint = "call " + std::to_string(nr_calls) +
			     " of a handler that has so many left: " +
			     std::to_string(spare->size());
	} catch (const std::bad_alloc &) {
		nr_speechless++;
	}
	is_complaining = false;
}

static void free_spare()
{
	complain();
	nr_calls++;
	if (spare->empty())
		throw std::bad_alloc();
	spare->pop_back();
}

static void new_handler_frees_and_retries()
{
	std::vector<std::unique_ptr<char[]>> held, taken;
	std::string said;
	ballast full;

	need_pool();
	held.reserve(8);
	taken.reserve(100);
	for (int i = 0; i < 8; i++)
		held.emplace_back(new char[2 * large_bytes]);
	spare = &held;
	complaint = &said;
	full.fill_all();
	std::set_new_handler(free_spare);
	try {
		for (;;)
			taken.emplace_back(new char[opaque(large_bytes)]);
	} catch (const std::bad_alloc &) {
		std::set_new_handler(nullptr);
	}
	CHECK(held.empty());
	CHECK(nr_calls == 9);
	CHECK(taken.size() >= 15 && taken.size() <= 17);
	/* One may be late. */
	CHECK(nr_speechless <= 1);
	full.give();
	taken.clear();
	CHECK(most_of_the_limit_is_there());
	check_end();
}

static void nothrow_new_and_small_ones_after_it()
{
	bool served = false;
	ballast full;

	need_pool();
	full.fill_all();
	for (int i = 0; i < max_attempts && !served; i++) {
		auto start = clock_type::now();
		std::unique_ptr<std::string> first, second;

		CHECK(!opaque_ptr(new (std::nothrow)
				  char[opaque(large_bytes)]));
		first.reset(new (std::nothrow) std::string("short"));
		second.reset(new (std::nothrow) std::string("also short"));
		served = first && second && *first == "short";
		if (!served && !CHECK(clock_type::now() - start >= grace))
			break;
	}
	CHECK(served);
	full.give();
	CHECK(most_of_the_limit_is_there());
	check_end();
}

enum { NR_THREADS = 4, NR_ROUNDS = 40 };

/* Exceptions in several threads at once, each with a text of its own. */
static void threads_throw_at_once()
{
	std::atomic<int> nr_ready{0}, nr_described{0};
	std::atomic<bool> go{false};
	std::vector<std::thread> threads;
	ballast full;

	need_pool();
	for (int t = 0; t < NR_THREADS; t++)
		threads.emplace_back([&] {
			nr_ready++;
			while (!go)
				std::this_thread::yield();
			for (int i = 0; i < NR_ROUNDS; i++)
				nr_described += error_path_works(
					[](const std::exception &error) {
					return is_described(describe(error));
				});
		});
	while (nr_ready < NR_THREADS)
		std::this_thread::yield();
	full.fill_all();
	go = true;
	for (auto &thread : threads)
		thread.join();
	CHECK(nr_described == NR_THREADS * NR_ROUNDS);
	full.give();
	CHECK(most_of_the_limit_is_there());
	check_end();
}

/* Threads that fill the pool against each other: each is told, and lives. */
static void threads_fill_at_once()
{
	std::vector<std::thread> threads;
	std::atomic<int> nr_told{0};

	need_pool();
	for (int t = 0; t < NR_THREADS; t++)
		threads.emplace_back([&] {
			for (int i = 0; i < 5; i++) {
				map_of_strings container;

				try {
					for (unsigned n = 0;; n++)
						container.add(n);
				} catch (const std::bad_alloc &) {
					nr_told++;
				}
			}
		});
	for (auto &thread : threads)
		thread.join();
	CHECK(nr_told == NR_THREADS * 5);
	CHECK(most_of_the_limit_is_there());
	check_end();
}

static const struct check_case cases[] = {
	{ "what_is_formatted_into_a_string", what_is_formatted_into_a_string },
	{ "exceptions_nest", exceptions_nest },
	{ "a_result_is_handed_over", a_result_is_handed_over },
	{ "maps_fill_the_pool", maps_fill_the_pool },
	{ "vectors_fill_the_pool", vectors_fill_the_pool },
	{ "hashes_fill_the_pool", hashes_fill_the_pool },
	{ "deques_fill_the_pool", deques_fill_the_pool },
	{ "new_handler_frees_and_retries", new_handler_frees_and_retries },
	{ "nothrow_new_and_small_ones_after_it",
	  nothrow_new_and_small_ones_after_it },
	{ "threads_throw_at_once", threads_throw_at_once },
	{ "threads_fill_at_once", threads_fill_at_once },
};

CHECK_MAIN(cases)
