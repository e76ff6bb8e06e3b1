/* SPDX-License-Identifier: MIT */
/*
 * interpose.c - the functions of libc that we stand in front of.
 *
 * dlopen, without RTLD_DEEPBIND: a library opened with that flag would bind to
 * libc's own malloc, and hand our pointers to libc's free.  (The other way
 * round is no problem: a pointer that is not ours goes to libc.)  libc's
 * dlopen looks at its return address to know for whom it searches, so it is
 * jumped to, not called.
 *
 * __register_atfork, which pthread_atfork is made of: handlers that prepare a
 * fork run in the reverse order of registration, and ours, which takes the
 * allocator's locks, must run last.  So it is registered first, however early
 * another library's constructor comes.
 *
 * pthread_create and thrd_create: with the program's first thread of its own
 * memory can be hidden in the cache of one that sleeps, and the background
 * thread is made that gets it back, and the one that watches what is outside.
 * Here and not in an allocation, since that is where a program holds no lock of
 * the loader's.
 */
#include <dlfcn.h>

#include <pthread.h>
#include <threads.h>

#include "preload.h"

typedef int pthread_create_fn(pthread_t *thread, const pthread_attr_t *attr,
			      void *(*start)(void *), void *arg);
typedef int thrd_create_fn(thrd_t *thread, thrd_start_t start, void *arg);
typedef void *dlopen_fn(const char *file, int mode);
typedef int register_atfork_fn(void (*prepare)(void), void (*parent)(void),
			       void (*child)(void), void *dso);

/* Until the constructor, or the first call, has found libc's. */
static void *dlopen_first(const char *file, int mode);

__attribute__((used, visibility("hidden")))
dlopen_fn *pp_real_dlopen = dlopen_first;

static void find_dlopen(void)
{
	*(void **)&pp_real_dlopen = preload_next_symbol("dlopen",
							(void *)dlopen);
}

static void *dlopen_first(const char *file, int mode)
{
	find_dlopen();
	return pp_real_dlopen(file, mode);
}

#if defined(__x86_64__)
static_assert(RTLD_DEEPBIND == 8, "the number below");
__asm__(".text\n"
	".globl dlopen\n"
	".type dlopen, @function\n"
	"dlopen:\n"
	"	andl $~8, %esi\n"
	"	jmp *pp_real_dlopen(%rip)\n"
	".size dlopen, . - dlopen\n");
#elif defined(__aarch64__)
static_assert(RTLD_DEEPBIND == 8, "the number below");
__asm__(".text\n"
	".globl dlopen\n"
	".type dlopen, @function\n"
	"dlopen:\n"
	"	and w1, w1, #~8\n"
	"	adrp x16, pp_real_dlopen\n"
	"	ldr x16, [x16, :lo12:pp_real_dlopen]\n"
	"	br x16\n"
	".size dlopen, . - dlopen\n");
#endif

PP_EXPORT register_atfork_fn __register_atfork;

int __register_atfork(void (*prepare)(void), void (*parent)(void),
		      void (*child)(void), void *dso)
{
	static register_atfork_fn *real;

	if (!real)
		*(void **)&real = preload_next_symbol("__register_atfork",
						(void *)__register_atfork);
	/* Ours comes through here too, with the hook marked as done. */
	preload_hook_fork();
	return real(prepare, parent, child, dso);
}

static pthread_create_fn *real_pthread_create;
static thrd_create_fn *real_thrd_create;

static void find_thread_functions(void)
{
	unsigned scope = scope_enter_internal();

	*(void **)&real_pthread_create =
		preload_next_symbol("pthread_create", (void *)pthread_create);
	*(void **)&real_thrd_create =
		preload_next_symbol("thrd_create", (void *)thrd_create);
	scope_leave(scope);
}

static void before_thread(void)
{
	struct pp_pool *pool = preload_pool_if_made();

	if (!real_pthread_create)
		find_thread_functions();
	if (pool)
		pool_start_threads(pool);
}

PP_EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr,
			     void *(*start)(void *), void *arg)
{
	/* The pool's own threads come through here too, and find that they are
	 * being started. */
	before_thread();
	return real_pthread_create(thread, attr, start, arg);
}

PP_EXPORT int thrd_create(thrd_t *thread, thrd_start_t start, void *arg)
{
	before_thread();
	return real_thrd_create ? real_thrd_create(thread, start, arg) :
				  thrd_error;
}

void preload_interpose(void)
{
	if (pp_real_dlopen == dlopen_first)
		find_dlopen();
	preload_find_waits();
}
