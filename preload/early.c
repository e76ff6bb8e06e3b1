/* SPDX-License-Identifier: MIT */
/* early.c - see early.h. */
#include "early.h"

#include "base/atomic.h"
#include "base/bits.h"

#define CHUNK_BYTES	512u
#define WORDS		64u

struct header {
	uint32_t	first_chunk;
	uint32_t	nr_chunks;
	uint64_t	usable_bytes;
};

static_assert(sizeof(struct header) == 16, "a block is aligned to 16 bytes");

static char area[WORDS * 64 * CHUNK_BYTES] PP_ALIGNED(4096);
static _Atomic uint64_t taken[WORDS];

/* The lowest run of @n zeroes; 64 if there is none. */
static unsigned find_zeroes(uint64_t word, unsigned n)
{
	uint64_t starts = ~word;

	/* After step i, a bit is set where i + 1 zeroes start. */
	for (unsigned i = 1; i < n && starts; i++)
		starts &= starts >> 1;
	return starts ? (unsigned)__builtin_ctzll(starts) : 64;
}

static uint64_t run_mask(unsigned first, unsigned n)
{
	return (n == 64 ? ~0ull : (1ull << n) - 1) << first;
}

static bool take_in_word(unsigned w, unsigned n, unsigned *first)
{
	uint64_t seen = load_relaxed(&taken[w]);

	/* Fails only if another thread took or gave something here. */
	while ((*first = find_zeroes(seen, n)) + n <= 64)
		/* Acquire: pairs with the release in early_free(). */
		if (cas_weak_acquire(&taken[w], &seen,
				     seen | run_mask(*first, n)))
			return true;
	return false;
}

static void *make_block(unsigned chunk, unsigned n, size_t align_bytes)
{
	char *start = area + (size_t)chunk * CHUNK_BYTES;
	char *end = start + (size_t)n * CHUNK_BYTES, *p;
	struct header *h;

	p = (char *)(uintptr_t)round_up_pow2((uintptr_t)start + sizeof(*h),
					     align_bytes);
	h = (struct header *)(void *)(p - sizeof(*h));
	h->first_chunk = chunk;
	h->nr_chunks = n;
	h->usable_bytes = (uint64_t)(end - p);
	/* Not memset, and nothing that becomes one: libc may not be ready. */
	for (volatile char *c = p; c < end; c++)
		*c = 0;
	return p;
}

void *early_alloc(size_t bytes, size_t align_bytes)
{
	size_t total;
	unsigned first, n;

	align_bytes = align_bytes < 16 ? 16 : align_bytes;
	if (bytes > EARLY_MAX_BYTES || align_bytes > EARLY_MAX_BYTES)
		return NULL;
	total = sizeof(struct header) + bytes +
		(align_bytes > 16 ? align_bytes : 0);
	n = (unsigned)div_up(total, CHUNK_BYTES);
	for (unsigned w = 0; n <= 64 && w < WORDS; w++)
		if (take_in_word(w, n, &first))
			return make_block(w * 64 + first, n, align_bytes);
	return NULL;
}

static struct header *header_of(const void *p)
{
	return (struct header *)((uintptr_t)p - sizeof(struct header));
}

void early_free(void *p)
{
	struct header *h = header_of(p);

	and_release(&taken[h->first_chunk / 64],
		    ~run_mask(h->first_chunk % 64, h->nr_chunks));
}

bool early_owns(const void *p)
{
	return (uintptr_t)p - (uintptr_t)area < sizeof(area);
}

size_t early_usable_bytes(const void *p)
{
	return header_of(p)->usable_bytes;
}

void *early_realloc(void *p, size_t bytes)
{
	size_t have = early_usable_bytes(p);
	const char *from = p;
	volatile char *to;

	if (bytes <= have)
		return p;
	to = early_alloc(bytes, 1);
	if (!to)
		return NULL;
	for (size_t i = 0; i < have; i++)	/* not memcpy, see above */
		to[i] = from[i];
	early_free(p);
	return (void *)(uintptr_t)to;
}
