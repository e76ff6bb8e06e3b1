/* SPDX-License-Identifier: MIT */
/* psi.c - see psi.h. */
#include "os/psi.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fault.h"
#include "os/cgroup.h"
#include "os/os.h"
#include "os/syscall.h"

#define SYSTEM_FILE	"/proc/pressure/memory"
#define GROUP_FILE	"memory.pressure"
/* What is thrown away for one event; more is the next one's. */
#define DISCARD_BYTES	256
#define DISCARD_TIMES	16

/* The service manager's words */

static int digit_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Behind the digits: padding that makes them a multiple of four, or none. */
static bool ends_well(const char *s, unsigned nr_digits)
{
	unsigned nr_pads = 0;

	for (; *s == '=' || is_blank(*s); s++)
		nr_pads += *s == '=';
	return !*s && nr_digits % 4 != 1 &&
	       (!nr_pads || (nr_digits + nr_pads) % 4 == 0) && nr_pads < 3;
}

long psi_decode(const char *text, char *out, size_t size)
{
	unsigned bits = 0, nr_bits = 0, nr_digits = 0;
	size_t len = 0;
	int value;

	for (; *text && *text != '='; text++) {
		if (is_blank(*text))
			continue;
		value = digit_value(*text);
		if (value < 0)
			return -EINVAL;
		bits = (bits << 6 | (unsigned)value) & 0xffff;
		nr_bits += 6;
		nr_digits++;
		if (nr_bits < 8)
			continue;
		nr_bits -= 8;
		if (len == size)
			return -ERANGE;
		out[len++] = (char)(bits >> nr_bits);
	}
	return ends_well(text, nr_digits) ? (long)len : -EINVAL;
}

void psi_parse_service(struct psi_service *service, const char *watch,
		       const char *write)
{
	long len;

	if (!watch || watch[0] != '/' || strlen(watch) >= PSI_PATH_BYTES)
		return;
	len = write ? psi_decode(write, service->write, PSI_WRITE_BYTES) : 0;
	if (len < 0)
		return;
	service->write_bytes = (size_t)len;
	memcpy(service->path, watch, strlen(watch) + 1);
	service->is_off = strcmp(watch, "/dev/null") == 0;
	service->is_given = true;
}

/* Finding a source */

static int join(char *to, const char *root, const char *path)
{
	size_t root_len = strlen(root), len = strlen(path) + 1;

	to[0] = '\0';
	if (root_len + len > PSI_PATH_BYTES)
		return -ENAMETOOLONG;
	memcpy(to, root, root_len);
	memcpy(to + root_len, path, len);
	return 0;
}

static int look_up(const char *path, struct stat *st)
{
	return (int)sys_call6(SYS_newfstatat, AT_FDCWD, (long)(uintptr_t)path,
			      (long)(uintptr_t)st, 0, 0, 0);
}

static int may_access(const char *path, int mode)
{
	return (int)sys_call3(SYS_faccessat, AT_FDCWD, (long)(uintptr_t)path,
			      mode);
}

/* What it is, and whether it can be opened. */
static int judge(struct psi_source *source)
{
	struct stat st;
	int err = look_up(source->path, &st), mode = R_OK | W_OK;

	if (err)
		return err;
	if (S_ISFIFO(st.st_mode)) {
		source->form = PSI_FIFO;
		mode = source->write_bytes ? mode : R_OK;
	} else if (S_ISSOCK(st.st_mode)) {
		source->form = PSI_SOCKET;
		mode = W_OK;
	} else if (S_ISREG(st.st_mode) || S_ISCHR(st.st_mode)) {
		source->form = PSI_FILE;
	} else {
		return -EINVAL;
	}
	return may_access(source->path, mode);
}

static void set_write(struct psi_source *source, const char *text, size_t len)
{
	memcpy(source->write, text, len);
	source->write_bytes = len;
}

int psi_try(const char *root, const struct psi_service *service,
	    enum psi_kind kind, struct psi_source *source)
{
	int err;

	source->kind = kind;
	source->path[0] = '\0';
	set_write(source, PSI_TRIGGER, sizeof(PSI_TRIGGER) - 1);
	if (service->is_off)
		return -ECANCELED;
	if (kind == PSI_SERVICE) {
		if (!service->is_given)
			return -ENODATA;
		set_write(source, service->write, service->write_bytes);
		err = join(source->path, root, service->path);
	} else if (kind == PSI_GROUP) {
		err = cgroup_find_file(root, GROUP_FILE, source->path,
				       PSI_PATH_BYTES);
	} else {
		err = join(source->path, root, SYSTEM_FILE);
	}
	return err ? err : judge(source);
}

void psi_find(const char *root, const struct psi_service *service,
	      enum psi_kind kind, struct psi_source *source)
{
	for (; kind < PSI_NONE; kind++)
		if (psi_try(root, service, kind, source) == 0)
			return;
	source->kind = PSI_NONE;
}

bool psi_may_exist(const struct psi_service *service)
{
	return !service->is_off &&
	       ((service->is_given && !may_access(service->path, F_OK)) ||
		!may_access(SYSTEM_FILE, F_OK));
}

/* Listening */

static int open_file(const char *path, int flags)
{
	return os_open(path, flags | O_NONBLOCK | O_NOCTTY);
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t len = strlen(path);
	int fd, err;

	if (len >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	if (fault_hit(FAULT_LISTEN))
		return -EMFILE;
	memcpy(address.sun_path, path, len);
	fd = (int)sys_call3(SYS_socket, AF_UNIX,
			    SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	err = (int)sys_call3(SYS_connect, fd, (long)(uintptr_t)&address,
			     sizeof(address));
	if (!err)
		return fd;
	sys_call3(SYS_close, fd, 0, 0);
	return err;
}

/* A FIFO that is open for writing too has no end: whoever comes to write may
 * go and come back. */
static int open_fifo(const struct psi_source *source)
{
	int fd = open_file(source->path, O_RDWR);

	if (fd >= 0 || source->write_bytes)
		return fd;
	return open_file(source->path, O_RDONLY);
}

int psi_open(const struct psi_source *source)
{
	long fd, len;

	if (source->form == PSI_SOCKET)
		fd = connect_to(source->path);
	else if (source->form == PSI_FIFO)
		fd = open_fifo(source);
	else
		fd = open_file(source->path, O_RDWR);
	if (fd < 0 || !source->write_bytes)
		return (int)fd;
	/* In one piece: so a trigger is taken, and others are short. */
	len = fault_hit(FAULT_LISTEN) ? -EBUSY :
	      sys_write((int)fd, source->write, source->write_bytes);
	if (len == (long)source->write_bytes)
		return (int)fd;
	sys_call3(SYS_close, fd, 0, 0);
	return len < 0 ? (int)len : -EIO;
}

short psi_events(const struct psi_source *source)
{
	return source->form == PSI_FILE ? POLLPRI : POLLIN;
}

/* Throws away what is there.  How many bytes; 0 at the end. */
static long discard(int fd)
{
	char bytes[DISCARD_BYTES];
	long got, sum = 0;

	for (int i = 0; i < DISCARD_TIMES; i++) {
		got = sys_call3(SYS_read, fd, (long)(uintptr_t)bytes,
				sizeof(bytes));
		if (got <= 0)
			return sum ? sum : got;
		sum += got;
	}
	return sum;
}

enum psi_answer psi_answer(const struct psi_source *source, int fd,
			   short revents)
{
	long got;

	if (source->form == PSI_FILE) {
		/* Without a trigger, and when the group is gone, it is both. */
		if (revents & (POLLERR | POLLNVAL))
			return PSI_LOST;
		return revents & POLLPRI ? PSI_EVENT : PSI_QUIET;
	}
	if (!(revents & POLLIN))
		return revents & (POLLERR | POLLHUP | POLLNVAL) ? PSI_LOST :
								  PSI_QUIET;
	got = discard(fd);
	if (got == -EAGAIN || got == -EINTR)
		return PSI_QUIET;
	return got > 0 ? PSI_EVENT : PSI_LOST;
}
