/* SPDX-License-Identifier: MIT */
/*
 * where CPU MEGABYTES BYTES: a program that knows of no pool.  On this CPU it
 * takes so many megabytes in blocks of so many bytes from malloc, writes to
 * all of them, and prints which node has how many of their pages:
 *
 *   move_pages 0=512 1=512
 *   numa_maps bind:0 bind:1	the policies of the mappings that they lie in
 */
#include "machine.h"

#define MAX_BLOCKS	65536
#define MAX_POLICIES	16

static char *block[MAX_BLOCKS];

static void print_nodes(size_t nr_blocks, size_t bytes)
{
	size_t pages[MAX_NODES] = { 0 };

	for (size_t i = 0; i < nr_blocks; i++)
		for (size_t at = 0; at < bytes; at += 4096) {
			int node = page_node(block[i] + at);

			if (node >= 0 && node < MAX_NODES)
				pages[node]++;
		}
	printf("move_pages");
	for (int i = 0; i < MAX_NODES; i++)
		if (pages[i])
			printf(" %d=%zu", i, pages[i]);
	printf("\n");
}

static void print_policies(size_t nr_blocks)
{
	char seen[MAX_POLICIES][64];
	char line[1024], word[64];
	int nr = 0, j;

	printf("numa_maps");
	for (size_t i = 0; i < nr_blocks; i += 64) {
		if (!numa_maps_line(block[i], line, sizeof(line)) ||
		    sscanf(line, "%*x %63s", word) != 1)
			continue;
		for (j = 0; j < nr && strcmp(seen[j], word); j++)
			;
		if (j < nr || nr == MAX_POLICIES)
			continue;
		memcpy(seen[nr++], word, sizeof(word));
		printf(" %s", word);
	}
	printf("\n");
}

int main(int argc, char **argv)
{
	size_t bytes, nr_blocks;

	if (argc != 4 || !pin(atoi(argv[1])))
		return 99;
	bytes = strtoull(argv[3], NULL, 0);
	nr_blocks = (strtoull(argv[2], NULL, 0) << 20) / bytes;
	if (nr_blocks > MAX_BLOCKS)
		return 99;
	for (size_t i = 0; i < nr_blocks; i++) {
		block[i] = malloc(bytes);
		if (!block[i])
			return 1;
		memset(block[i], 1, bytes);
	}
	print_nodes(nr_blocks, bytes);
	print_policies(nr_blocks);
	return 0;
}
