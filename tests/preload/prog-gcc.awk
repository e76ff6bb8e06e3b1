# SPDX-License-Identifier: MIT
# One large C function: what a compiler keeps about it outgrows a small pool.

BEGIN {
	print "int g0(int), g1(int), g2(int), g3(int), g4(int);"
	print "int f(int *a, int x)\n{"
	for (i = 0; i < 6000; i++)
		printf "\tif (a[%d] > x)\n\t\tx = x * %d + a[%d];\n" \
			"\telse\n\t\ta[x & 255] += g%d(x);\n",
			i % 256, i % 31 + 2, i * 7 % 256, i % 5
	print "\treturn x;\n}"
}
