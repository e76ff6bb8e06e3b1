# SPDX-License-Identifier: MIT
# A history for git fast-import: 400 commits to 150 files in ten folders.
# Nothing in it depends on the machine, so the last commit's name is known.

function text(file, version,   i, all) {
	all = "file " file " version " version "\n"
	for (i = 0; i < 120; i++)
		all = all "line " i " of " file ": " \
			(i * 7919 + file * 104729) % 1000003 \
			(i % 17 == version % 17 ? " changed in " version : "") \
			"\n"
	return all
}

function change(file, version,   all) {
	all = text(file, version)
	printf "M 100644 inline dir%d/file%d.txt\ndata %d\n%s\n",
		file % 10, file, length(all), all
}

function commit(version,   says, k) {
	says = "commit number " version "\n"
	printf "commit refs/heads/main\nmark :%d\n", version
	printf "committer A U Thor <author@example.com> %d +0000\n",
		1000000000 + version * 60
	printf "data %d\n%s", length(says), says
	if (version > 1)
		printf "from :%d\n", version - 1
	for (k = 0; version == 1 && k < 150; k++)
		change(k, version)
	for (k = 0; version > 1 && k < 5; k++)
		change((version * 31 + k * 37) % 150, version)
}

BEGIN {
	for (version = 1; version <= 400; version++)
		commit(version)
	print "done"
}
