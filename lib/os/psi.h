/* SPDX-License-Identifier: MIT */
/*
 * psi.h - where memory pressure from outside the pool is heard of (layer 1).
 *
 * In this order:
 *
 *	service	what the service manager names, by the protocol of
 *		systemd.io/PRESSURE: MEMORY_PRESSURE_WATCH is a path, and
 *		MEMORY_PRESSURE_WRITE, in base64, what to write there first.
 *		/dev/null says that nothing is to be watched, here or elsewhere.
 *	group	memory.pressure of the process's own control group, version 2
 *	system	/proc/pressure/memory
 *
 * A file is one of the kernel's (PSI, pressure stall information): a trigger is
 * written to it, POLLPRI is an event, and it is never read.  A FIFO or a
 * socket in the file system is somebody's who speaks the protocol: POLLIN is an
 * event, and what is there to read is thrown away.
 *
 * By raw system calls, without allocation.
 */
#ifndef PP_OS_PSI_H
#define PP_OS_PSI_H

#include "base/compiler.h"

#include <stdbool.h>

#define PSI_PATH_BYTES	4096
#define PSI_WRITE_BYTES	512

/*
 * Of each 2 s, 150 ms in which some thread waited for memory.  The service
 * manager's own default is a tenth of the time.  Without CAP_SYS_RESOURCE
 * windows are multiples of 2 s.  The kernel writes a 0 over the last byte: so
 * it is a newline.
 */
#define PSI_TRIGGER	"some 150000 2000000\n"

enum psi_kind { PSI_SERVICE, PSI_GROUP, PSI_SYSTEM, PSI_NONE };

enum psi_form { PSI_FILE, PSI_FIFO, PSI_SOCKET };

/* What the service manager says.  Not @is_given: nothing. */
struct psi_service {
	bool		is_given;
	bool		is_off;		/* nothing is to be watched */
	size_t		write_bytes;
	char		path[PSI_PATH_BYTES];
	char		write[PSI_WRITE_BYTES];
};

struct psi_source {
	enum psi_kind	kind;
	enum psi_form	form;
	size_t		write_bytes;
	char		path[PSI_PATH_BYTES];
	char		write[PSI_WRITE_BYTES];
};

/* Fills in @service: the texts of the two variables, NULL where not set.  What
 * is wrong with them is as if not set. */
void psi_parse_service(struct psi_service *service, const char *watch,
		       const char *write);

/* Base64, with or without padding, blanks in between.  Returns the bytes, or
 * -EINVAL, -ERANGE if they do not fit. */
long psi_decode(const char *text, char *out, size_t size);

/**
 * psi_try() - can pressure be heard of there?
 * @root: put in front of all paths: "" but for tests.
 * @kind: PSI_SERVICE, PSI_GROUP or PSI_SYSTEM.
 * @source: filled in; with an error, the path at least, or "".
 *
 * Return: 0; -ENODATA if the service manager says nothing, -ECANCELED if it
 * wants nothing to be watched; -ENOENT, -EACCES, -EROFS and others: no such
 * file, or not to be written.
 */
int psi_try(const char *root, const struct psi_service *service,
	    enum psi_kind kind, struct psi_source *source);

/* The first that can be opened, from @kind on; else kind is PSI_NONE. */
void psi_find(const char *root, const struct psi_service *service,
	      enum psi_kind kind, struct psi_source *source);

/* May there be any?  A quick look that needs no descriptor. */
bool psi_may_exist(const struct psi_service *service);

/* A descriptor to poll, or -errno.  Does not wait. */
int psi_open(const struct psi_source *source);

/* What to poll for. */
short psi_events(const struct psi_source *source);

enum psi_answer { PSI_QUIET, PSI_EVENT, PSI_LOST };

/* What poll() said.  PSI_LOST: there will be no more, close it. */
enum psi_answer psi_answer(const struct psi_source *source, int fd,
			   short revents);

#endif
