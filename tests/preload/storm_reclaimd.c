// SPDX-License-Identifier: MIT
/*
 * The background thread: when it is there, when it is not, and that nobody
 * notices.  It starts with the first thread that the program makes, takes no
 * signal and no descriptor, and does not keep a process alive.
 *
 * Cases that look at how a process ends run this program again, as
 * `storm_reclaimd as SCENE`, because a child of a fork is not quite like one.
 * Built a second time with a megabyte of thread-local storage (STORM_TLS).
 */
#include "storm.h"
#include <grp.h>
#include <sys/prctl.h>
#include <threads.h>

#ifdef STORM_TLS
static __thread char big_tls[1 << 20];
#else
static __thread char big_tls[16];
#endif

#define PROMPT_NS 20000000000ull	/* on a machine that does much else */

static void use_malloc(void)
{
	void *head = NULL;

	for (size_t size = 16; size < 300000; size *= 3)
		fill_up_to(&head, size, 5);
	drop(&head);
	((volatile char *)big_tls)[sizeof(big_tls) - 1] = 1;
}

static void *use_malloc_body(void *unused)
{
	use_malloc();
	return unused;
}

static void one_thread(void)
{
	pthread_t thread;

	REQUIRE(!pthread_create(&thread, NULL, use_malloc_body, NULL));
	REQUIRE(!pthread_join(thread, NULL));
}

/* What is left when the program's own thread is alone again. */
static void check_started(void)
{
	CHECK(storm_tasks_become(on_pagepool() ? 2 : 1, on_pagepool()));
}

/* The rule */

static void none_in_a_program_of_one_thread(void)
{
	void *head = NULL;
	pid_t pid;

	CHECK(storm_nr_tasks() == 1);
	use_malloc();
	fill(&head, 50000);
	drop(&head);
	malloc_trim(0);
	pid = fork();
	if (pid == 0) {
		use_malloc();
		CHECK(storm_nr_tasks() == 1);
		check_child_exit();
	}
	CHECK(check_child(pid));
	CHECK(system("true") == 0);
	CHECK(storm_nr_tasks() == 1);
	check_end();
}

static pthread_barrier_t gate;

static void *at_gate(void *unused)
{
	pthread_barrier_wait(&gate);
	pthread_barrier_wait(&gate);
	return unused;
}

static void one_with_the_first_thread(void)
{
	pthread_t threads[3];

	pthread_barrier_init(&gate, NULL, 2);
	REQUIRE(!pthread_create(&threads[0], NULL, at_gate, NULL));
	pthread_barrier_wait(&gate);
	CHECK(storm_tasks_become(on_pagepool() ? 3 : 2, on_pagepool()));
	pthread_barrier_wait(&gate);
	pthread_join(threads[0], NULL);
	check_started();
	/* No more of them, however many come. */
	pthread_barrier_init(&gate, NULL, 4);
	for (size_t i = 0; i < 3; i++)
		REQUIRE(!pthread_create(&threads[i], NULL, at_gate, NULL));
	pthread_barrier_wait(&gate);
	CHECK(storm_tasks_become(on_pagepool() ? 5 : 4, on_pagepool()));
	pthread_barrier_wait(&gate);
	for (size_t i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	check_started();
	check_end();
}

static void *two_at_once(void *unused)
{
	pthread_barrier_wait(&gate);
	one_thread();
	return unused;
}

/* C11's threads are not made through pthread_create(), so these two make the
 * first of the program at the same moment. */
static int first_at_once(void *unused)
{
	return two_at_once(unused) != NULL;
}

static void one_if_two_make_the_first(void)
{
	pthread_barrier_init(&gate, NULL, 2);
	for (unsigned i = 0; i < 50; i++) {
		pid_t pid = fork();
		thrd_t threads[2];

		if (pid == 0) {
			for (size_t k = 0; k < 2; k++)
				REQUIRE(thrd_create(&threads[k], first_at_once,
						    NULL) == thrd_success);
			for (size_t k = 0; k < 2; k++)
				thrd_join(threads[k], NULL);
			check_started();
			check_child_exit();
		}
		CHECK(check_child(pid));
	}
	check_end();
}

/* Threads that libc makes without our knowing hide nothing either. */
static int fill_and_wait(void *unused)
{
	void *head = NULL;

	for (size_t size = 16; size < 300000; size *= 2) {
		fill_up_to(&head, size, 30);
		drop(&head);
	}
	at_gate(unused);
	return 0;
}

static void memory_is_found_without_it(void)
{
	enum { NR = 8 };
	thrd_t threads[NR];

	storm_needs_pool();
	pthread_barrier_init(&gate, NULL, NR + 1);
	for (size_t i = 0; i < NR; i++)
		REQUIRE(thrd_create(&threads[i], fill_and_wait, NULL) ==
			thrd_success);
	pthread_barrier_wait(&gate);
	CHECK(fills_limit(4096, 95));
	CHECK(fills_limit(300000, 90));
	pthread_barrier_wait(&gate);
	for (size_t i = 0; i < NR; i++)
		thrd_join(threads[i], NULL);
	check_end();
}

/* Signals, descriptors, users */

static uint64_t status_mask(pid_t tid, const char *field)
{
	char text[4096], *found;

	REQUIRE(storm_task_file(tid, "status", text, sizeof(text)));
	found = strstr(text, field);
	REQUIRE(found != NULL);
	return strtoull(found + strlen(field) + 1, NULL, 16);
}

static bool has_signal(uint64_t mask, int signal)
{
	return mask >> (signal - 1) & 1;
}

static void all_are_blocked_in(pid_t tid)
{
	uint64_t blocked = status_mask(tid, "SigBlk:");

	for (int i = 1; i <= 64; i++) {
		/* Nobody can block these; libc keeps two for itself, one of
		 * which every thread must take, see setuid() below. */
		bool can = i != SIGKILL && i != SIGSTOP &&
			   (i < 32 || i >= SIGRTMIN);

		if (!CHECK(has_signal(blocked, i) == can))
			check_say("signal %d\n", i);
	}
	CHECK(status_mask(tid, "SigPnd:") == 0);
}

static void all_signals_are_blocked(void)
{
	struct storm_found watch;

	storm_needs_pool();
	one_thread();
	check_started();
	all_are_blocked_in(storm_find_reclaimd().tid);
	watch = storm_find(STORM_WATCH);
	if (watch.nr)
		all_are_blocked_in(watch.tid);
	/* And the program's own thread has none of it. */
	CHECK(status_mask(getpid(), "SigBlk:") == 0);
	check_end();
}

static pid_t handled_by;

static void on_signal(int signal)
{
	(void)signal;
	handled_by = (pid_t)syscall(SYS_gettid);
}

/* What is sent to the process waits for a thread of the program. */
static void signals_wait_for_the_program(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct timespec at_once = { 0, 0 };
	sigset_t set, saved;

	sigaction(SIGUSR1, &action, NULL);
	one_thread();
	check_started();
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, &saved);
	for (unsigned i = 0; i < 100; i++) {
		handled_by = 0;
		REQUIRE(kill(getpid(), SIGUSR1) == 0);
		sched_yield();
		CHECK(handled_by == 0);
		CHECK(sigtimedwait(&set, NULL, &at_once) == SIGUSR1);
	}
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	for (unsigned i = 0; i < 100; i++) {
		handled_by = 0;
		REQUIRE(kill(getpid(), SIGUSR1) == 0);
		CHECK(handled_by == getpid());
	}
	check_end();
}

static unsigned nr_descriptors(void)
{
	unsigned nr = 0;

	for (int fd = 0; fd < 1024; fd++)
		nr += fcntl(fd, F_GETFD) >= 0;
	return nr;
}

static void closed_descriptors_are_none_of_its(void)
{
	unsigned before = nr_descriptors();
	void *head = NULL;
	int saved = dup(STDOUT_FILENO);

	one_thread();
	check_started();
	CHECK(nr_descriptors() == before + 1);
	/* As daemons do; the number is kept, for the verdict. */
	for (int fd = 0; fd < 1024; fd++)
		if (fd != saved)
			close(fd);
	for (unsigned i = 0; i < 20; i++) {
		fill(&head, 30000);
		one_thread();
		drop(&head);
		one_thread();
	}
	CHECK(nr_descriptors() == 1);
	REQUIRE(dup2(saved, STDOUT_FILENO) == STDOUT_FILENO);
	CHECK(!on_pagepool() || fills_limit(5000, 95));
	check_end();
}

/* libc sends every thread a signal, and waits for each to change its user. */
static void *change_user(void *unused)
{
	uid_t uid = getuid(), other = uid ? uid : 65534;
	gid_t gid = getgid();

	for (unsigned i = 0; i < 50; i++) {
		CHECK(setresuid(uid, other, uid) == 0);
		use_malloc();
		CHECK(setresuid(uid, uid, uid) == 0);
		CHECK(setresgid(gid, gid, gid) == 0);
	}
	return unused;
}

static void users_change_in_all_threads(void)
{
	pthread_t threads[3];
	void *head = NULL;

	alarm(60);
	one_thread();
	check_started();
	for (size_t i = 0; i < 3; i++)
		REQUIRE(!pthread_create(&threads[i], NULL, i == 1 ?
					change_user : use_malloc_body, NULL));
	for (unsigned i = 0; i < 30; i++) {
		fill(&head, 20000);
		drop(&head);
	}
	for (size_t i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	change_user(NULL);
	if (on_pagepool())
		CHECK(status_mask(storm_find_reclaimd().tid, "Uid:") ==
		      status_mask(getpid(), "Uid:"));
	/* For good, if we may. */
	if (getuid() == 0) {
		CHECK(setgroups(0, NULL) == 0);
		CHECK(setuid(65534) == 0);
		one_thread();
		CHECK(geteuid() == 65534);
	}
	check_end();
}

/* How a process ends */

static int scene_says;		/* a pipe's end */

static void say(char word)
{
	if (write(scene_says, &word, 1) != 1)
		_exit(90);
}

static void say_at_exit(void)
{
	say('e');
}

static void *work_a_while(void *arg)
{
	storm_nap_us(200000);
	use_malloc();
	say('w');
	return arg;
}

static void *leave_by_exit(void *arg)
{
	work_a_while(arg);
	exit(7);
}

static void *leave_by_pthread_exit(void *arg)
{
	work_a_while(arg);
	pthread_exit(arg);
}

static void *wait_to_be_cancelled(void *arg)
{
	for (;;)
		storm_nap_us(100000);
	return arg;
}

static void *cancel_another(void *other)
{
	work_a_while(other);
	pthread_cancel(*(pthread_t *)other);
	return other;
}

/* The next one begins when this one ends, some generations long. */
static void *have_a_successor(void *left)
{
	pthread_t thread;

	use_malloc();
	storm_nap_us(50000);
	if (left)
		pthread_create(&thread, NULL, have_a_successor,
			       (void *)((uintptr_t)left - 1));
	else
		say('w');
	return NULL;
}

static void leave_main(void *(*body)(void *), void *arg, bool detached)
{
	static pthread_t thread;

	atexit(say_at_exit);
	one_thread();
	REQUIRE(!pthread_create(&thread, NULL, body, arg));
	if (detached)
		pthread_detach(thread);
	pthread_exit(NULL);
}

static void scene_returns(void)
{
	leave_main(work_a_while, NULL, false);
}

static void scene_detached(void)
{
	leave_main(work_a_while, NULL, true);
}

static void scene_pthread_exit(void)
{
	leave_main(leave_by_pthread_exit, NULL, false);
}

static void scene_exit(void)
{
	leave_main(leave_by_exit, NULL, false);
}

static void scene_successors(void)
{
	leave_main(have_a_successor, (void *)5, true);
}

static void scene_cancelled(void)
{
	static pthread_t other;

	REQUIRE(!pthread_create(&other, NULL, wait_to_be_cancelled, NULL));
	leave_main(cancel_another, &other, false);
}

/* The first thread leaves, and is the last as well. */
static void scene_alone(void)
{
	atexit(say_at_exit);
	one_thread();
	say('w');
	pthread_exit(NULL);
}

static void scene_main_returns(void)
{
	pthread_t thread;

	atexit(say_at_exit);
	REQUIRE(!pthread_create(&thread, NULL, wait_to_be_cancelled, NULL));
	say('w');
	exit(3);
}

static void scene_killed(void)
{
	one_thread();
	say('w');
	kill(getpid(), SIGTERM);
	for (;;)
		pause();
}

static const struct scene {
	const char *name;
	void (*play)(void);
	const char *says;
	int status;
} scenes[] = {
	{ "returns", scene_returns, "we", 0 },
	{ "detached", scene_detached, "we", 0 },
	{ "pthread_exit", scene_pthread_exit, "we", 0 },
	{ "exit", scene_exit, "we", 7 << 8 },
	{ "successors", scene_successors, "we", 0 },
	{ "cancelled", scene_cancelled, "we", 0 },
	{ "alone", scene_alone, "we", 0 },
	{ "main_returns", scene_main_returns, "we", 3 << 8 },
	{ "killed", scene_killed, "w", SIGTERM },
};

enum { NR_SCENES = sizeof(scenes) / sizeof(scenes[0]) };

static void play(const struct scene *scene, int to, bool again)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", to);
	if (again)
		execl("/proc/self/exe", "storm_reclaimd", "as", scene->name,
		      number, NULL);
	scene_says = to;
	if (!again)
		scene->play();
	_exit(91);
}

/* What it said until it was gone, and its status, or -1 in time. */
static void check_scene(const struct scene *scene, bool again)
{
	uint64_t start_ns = storm_now_ns();
	char said[8] = "";
	size_t nr = 0;
	int fds[2], status = -1;
	pid_t pid;

	REQUIRE(!pipe(fds));
	pid = fork();
	if (pid == 0) {
		close(fds[0]);
		alarm(60);
		play(scene, fds[1], again);
	}
	close(fds[1]);
	while (nr < 7 && read(fds[0], said + nr, 1) == 1)
		nr++;
	close(fds[0]);
	CHECK(waitpid(pid, &status, 0) == pid);
	if (!CHECK(status == scene->status) ||
	    !CHECK(!strcmp(said, scene->says)) ||
	    !CHECK(storm_now_ns() - start_ns < PROMPT_NS))
		check_say("%s%s: status %#x, said \"%s\", %llu ms\n",
			  scene->name, again ? "" : " in a child", status,
			  said, (unsigned long long)
			  (storm_now_ns() - start_ns) / 1000000);
}

static void it_keeps_no_process_alive(void)
{
	for (size_t i = 0; i < NR_SCENES; i++)
		check_scene(&scenes[i], true);
	check_end();
}

static void nor_the_child_of_one(void)
{
	one_thread();
	check_started();
	for (size_t i = 0; i < NR_SCENES; i++)
		check_scene(&scenes[i], false);
	check_end();
}

/* fork twice, and begin a life of one's own */
static void daemons_get_their_own(void)
{
	int fds[2], result = -1;
	pid_t pid;

	one_thread();
	check_started();
	REQUIRE(!pipe(fds));
	pid = fork();
	if (pid == 0) {
		alarm(60);
		setsid();
		if (fork())
			_exit(0);
		close(fds[0]);
		CHECK(storm_nr_tasks() == 1);
		one_thread();
		check_started();
		CHECK(!on_pagepool() || fills_limit(5000, 95));
		CHECK(storm_pool_call("pp_pool_check") == 0);
		result = (int)check_nr_failed;
		if (write(fds[1], &result, sizeof(result)) < 0)
			_exit(1);
		check_child_exit();
	}
	close(fds[1]);
	CHECK(check_child(pid));
	CHECK(read(fds[0], &result, sizeof(result)) == sizeof(result));
	CHECK(result == 0);
	check_end();
}

/* It does its work: what idle threads cached is found. */
static void *fill_and_idle(void *unused)
{
	fill_and_wait(unused);
	return unused;
}

static void memory_is_found_with_it(void)
{
	enum { NR = 32 };
	static pthread_t threads[NR];
	struct pp_stats before, after;

	storm_needs_pool();
	pthread_barrier_init(&gate, NULL, NR + 1);
	for (size_t i = 0; i < NR; i++)
		REQUIRE(!pthread_create(&threads[i], NULL, fill_and_idle,
					NULL));
	pthread_barrier_wait(&gate);
	before = storm_stats();
	CHECK(fills_limit(4096, 95));
	after = storm_stats();
	CHECK(after.drains - before.drains <= 3);
	CHECK(fills_limit(300000, 90));
	pthread_barrier_wait(&gate);
	for (size_t i = 0; i < NR; i++)
		pthread_join(threads[i], NULL);
	check_end();
}

static const struct check_case cases[] = {
	{ "none_in_a_program_of_one_thread", none_in_a_program_of_one_thread },
	{ "one_with_the_first_thread", one_with_the_first_thread },
	{ "one_if_two_make_the_first", one_if_two_make_the_first },
	{ "memory_is_found_without_it", memory_is_found_without_it },
	{ "memory_is_found_with_it", memory_is_found_with_it },
	{ "all_signals_are_blocked", all_signals_are_blocked },
	{ "signals_wait_for_the_program", signals_wait_for_the_program },
	{ "closed_descriptors_are_none_of_its",
	  closed_descriptors_are_none_of_its },
	{ "users_change_in_all_threads", users_change_in_all_threads },
	{ "it_keeps_no_process_alive", it_keeps_no_process_alive },
	{ "nor_the_child_of_one", nor_the_child_of_one },
	{ "daemons_get_their_own", daemons_get_their_own },
};

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "as"))
		for (size_t i = 0; i < NR_SCENES; i++)
			if (!strcmp(argv[2], scenes[i].name)) {
				scene_says = atoi(argv[3]);
				scenes[i].play();
			}
	return check_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
