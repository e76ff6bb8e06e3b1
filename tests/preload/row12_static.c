// SPDX-License-Identifier: MIT
/*
 * Row 12: a static program.  No loader, no preload, no effect: it gets more
 * than the limit.
 */
#include "check.h"

static void not_affected(void)
{
	char *block = malloc(opaque(256 << 20));

	CHECK(block != NULL);
	free(block);
	check_end();
}

static const struct check_case cases[] = {
	{ "not_affected", not_affected },
};

CHECK_MAIN(cases)
