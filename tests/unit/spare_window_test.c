/* SPDX-License-Identifier: MIT */
/*
 * What was spare for a delay: by hand on a clock of our own, and at random
 * against a model that keeps the whole history.  Idle is never more than the
 * least there was in the delay (nothing is purged early), and never less than
 * the least of a delay and a fourth (nothing stays for ever).
 */
#include "../api/testing.h"

#include "spare_window.h"

#define SLOT	SPARE_WINDOW_MIN_SLOT_NS
#define DELAY	(SPARE_WINDOW_DELAY_SLOTS * SLOT)
#define START	1000000000000ull
/* Between two looks at the most, so that slots are no more than that longer. */
#define STEP	(SLOT / 8)

static void test_window_slot_is_a_part_of_the_delay(void **state)
{
	(void)state;
	assert_int_equal(spare_window_slot_ns(0), SPARE_WINDOW_MIN_SLOT_NS);
	assert_int_equal(spare_window_slot_ns(DELAY), SLOT);
	assert_int_equal(spare_window_slot_ns(DELAY - 1), SLOT);
	assert_int_equal(spare_window_slot_ns(32000000000ull), 1000000000ull);
	reached_end();
}

/* From one slot to the next with @spare pages all the time. */
static uint64_t idle_after(struct spare_window *w, uint64_t *now,
			   unsigned slots, uint64_t spare)
{
	for (unsigned i = 0; i < slots; i++) {
		*now += SLOT;
		spare_window_advance(w, *now, SLOT, spare);
	}
	return spare_window_idle_pages(w);
}

static void test_window_idle_only_after_the_whole_delay(void **state)
{
	struct spare_window w = { .now = 0 };
	uint64_t now = START;

	(void)state;
	spare_window_advance(&w, now, SLOT, 0);
	assert_int_equal(idle_after(&w, &now, SPARE_WINDOW_DELAY_SLOTS, 100),
			 0);
	assert_int_equal(idle_after(&w, &now, 1, 100), 100);
	/* More is spare: idle a delay later. */
	assert_int_equal(idle_after(&w, &now, SPARE_WINDOW_DELAY_SLOTS, 150),
			 100);
	assert_int_equal(idle_after(&w, &now, 1, 150), 150);
	reached_end();
}

static void test_window_use_for_a_moment_counts_for_the_delay(void **state)
{
	struct spare_window w = { .now = 0 };
	uint64_t now = START;

	(void)state;
	idle_after(&w, &now, 2 * SPARE_WINDOW_SLOTS, 100);
	spare_window_note(&w, 40);
	assert_int_equal(spare_window_idle_pages(&w), 40);
	spare_window_note(&w, 70);	/* not lower */
	assert_int_equal(idle_after(&w, &now, SPARE_WINDOW_DELAY_SLOTS, 100),
			 40);
	assert_int_equal(idle_after(&w, &now, 1, 100), 100);
	reached_end();
}

static void test_window_early_looks_change_nothing(void **state)
{
	struct spare_window w = { .now = 0 };
	uint64_t now = START;

	(void)state;
	idle_after(&w, &now, 5, 100);
	for (unsigned i = 0; i < 1000; i++)
		spare_window_advance(&w, now + SLOT - 1, SLOT, 100);
	assert_int_equal(spare_window_idle_pages(&w), 0);
	assert_int_equal(idle_after(&w, &now, SPARE_WINDOW_SLOTS - 5, 100),
			 100);
	reached_end();
}

/* Nobody looked for long: what is known is the low of the last slot. */
static void test_window_missed_slots_have_the_low_before_them(void **state)
{
	struct spare_window w = { .now = 0 };
	uint64_t now = START;

	(void)state;
	idle_after(&w, &now, SPARE_WINDOW_SLOTS, 100);
	spare_window_note(&w, 30);
	now += 1000 * DELAY;
	/* Much was freed just before this look. */
	spare_window_advance(&w, now, SLOT, 5000);
	assert_int_equal(spare_window_idle_pages(&w), 30);
	assert_int_equal(idle_after(&w, &now, SPARE_WINDOW_DELAY_SLOTS - 1,
				    5000), 30);
	assert_int_equal(idle_after(&w, &now, 1, 5000), 5000);
	reached_end();
}

static void test_window_take_and_add_idle(void **state)
{
	struct spare_window w = { .now = 0 };
	uint64_t now = START;

	(void)state;
	idle_after(&w, &now, SPARE_WINDOW_SLOTS, 100);
	spare_window_take(&w, 60);
	assert_int_equal(spare_window_idle_pages(&w), 40);
	spare_window_take(&w, 60);
	assert_int_equal(spare_window_idle_pages(&w), 0);
	/* Idle for part of the delay: later by the rest of it. */
	spare_window_add_idle(&w, 7, 10);
	assert_int_equal(spare_window_idle_pages(&w), 0);
	assert_int_equal(idle_after(&w, &now, SPARE_WINDOW_SLOTS - 12, 7), 0);
	assert_int_equal(idle_after(&w, &now, 1, 7), 7);
	/* For all of it: at once. */
	spare_window_add_idle(&w, 9, 1000);
	assert_int_equal(spare_window_idle_pages(&w), 16);
	reached_end();
}

/* The delay is made shorter while a slot of the long one has just begun. */
static void test_window_long_slot_is_cut_when_the_delay_is_less(void **state)
{
	struct spare_window w = { .now = 0 };
	uint64_t now = START;

	(void)state;
	spare_window_advance(&w, now, 1000 * DELAY, 0);
	spare_window_advance(&w, now, SLOT, 100);
	assert_int_equal(idle_after(&w, &now, SPARE_WINDOW_SLOTS + 1, 100),
			 100);
	reached_end();
}

/* At random */

#define MAX_EVENTS	4000

struct history {
	struct {
		uint64_t	at_ns, spare;
	} event[MAX_EVENTS];
	size_t	nr;
};

static void remember(struct history *h, uint64_t now, uint64_t spare)
{
	assert_true(h->nr < MAX_EVENTS);
	h->event[h->nr].at_ns = now;
	h->event[h->nr++].spare = spare;
}

/* The least there was in the last @ns; before the first event there was
 * nothing. */
static uint64_t least_in(const struct history *h, uint64_t now, uint64_t ns)
{
	uint64_t least = h->event[h->nr - 1].spare;

	if (h->event[0].at_ns + ns > now)
		return 0;
	for (size_t i = h->nr; i-- > 0;) {
		if (h->event[i].spare < least)
			least = h->event[i].spare;
		if (h->event[i].at_ns + ns <= now)
			break;
	}
	return least;
}

/* What is purged was never there, as far as the window is concerned. */
static void forget_purged(struct history *h, uint64_t nr)
{
	for (size_t i = 0; i < h->nr; i++)
		h->event[i].spare -= nr < h->event[i].spare ?
				     nr : h->event[i].spare;
}

static void compare(const struct spare_window *w, const struct history *h,
		    uint64_t now, bool looked_always)
{
	uint64_t idle = spare_window_idle_pages(w);

	assert_true(idle <= least_in(h, now, DELAY));
	if (looked_always)
		assert_true(idle >= least_in(h, now, DELAY / 4 * 5));
}

static void play(struct rng *r, bool look_always)
{
	struct history *h = test_array(1, sizeof(*h));
	struct spare_window w = { .now = 0 };
	uint64_t now = START, spare = 0, idle;

	spare_window_advance(&w, now, SLOT, 0);
	remember(h, now, 0);
	for (unsigned i = 0; i < MAX_EVENTS / 2; i++) {
		now += rng_below(r, look_always ? STEP :
				 rng_below(r, 50) ? SLOT : 2 * DELAY) + 1;
		/* A look comes before a change, as with the zone's lock. */
		if (look_always || rng_below(r, 3))
			spare_window_advance(&w, now, SLOT, spare);
		switch (rng_below(r, 40)) {
		case 0:
			spare -= rng_below(r, spare + 1);
			spare_window_note(&w, spare);
			break;
		case 1:
			spare += rng_below(r, 1000);
			break;
		case 2:
			idle = spare_window_idle_pages(&w);
			idle = rng_below(r, idle + 1);
			spare_window_take(&w, idle);
			spare -= idle;
			forget_purged(h, idle);
			break;
		default:
			break;
		}
		remember(h, now, spare);
		compare(&w, h, now, look_always);
	}
	free(h);
}

static void test_window_random_events_match_the_history(void **state)
{
	struct rng r = rng_make(1);

	(void)state;
	for (unsigned i = 0; i < 200; i++)
		play(&r, true);
	reached_end();
}

static void test_window_looked_at_by_chance_is_never_early(void **state)
{
	struct rng r = rng_make(2);

	(void)state;
	for (unsigned i = 0; i < 200; i++)
		play(&r, false);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_window_slot_is_a_part_of_the_delay),
		TEST(test_window_idle_only_after_the_whole_delay),
		TEST(test_window_use_for_a_moment_counts_for_the_delay),
		TEST(test_window_early_looks_change_nothing),
		TEST(test_window_missed_slots_have_the_low_before_them),
		TEST(test_window_take_and_add_idle),
		TEST(test_window_long_slot_is_cut_when_the_delay_is_less),
		TEST(test_window_random_events_match_the_history),
		TEST(test_window_looked_at_by_chance_is_never_early),
	};

	return cmocka_run_group_tests_name("spare_window", tests, NULL, NULL);
}
