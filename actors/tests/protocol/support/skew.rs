//! A wall clock that is wrong, for a process of its own: a library that is loaded before libc and shifts what it says.
//!
//! Only the wall clock, and not what is waited for by it: libraries that shift all clocks break librdkafka.

use std::{path::PathBuf, process::Command, sync::OnceLock};

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static long skew(void) {
    const char *text = getenv("SKEW_S");
    return text ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int failed = (int) syscall(SYS_clock_gettime, clock, time);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += skew();
    return failed;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    int failed = (int) syscall(SYS_gettimeofday, time, zone);
    if (!failed && time) time->tv_sec += skew();
    return failed;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

// librdkafka reckons until when it waits by that clock, and the kernel knows nothing of us.
int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
    static int (*wait)(cnd_t *, mtx_t *, const struct timespec *);
    if (!wait) wait = dlsym(RTLD_NEXT, "cnd_timedwait");
    struct timespec here = *until;
    if (here.tv_sec > 0) here.tv_sec -= skew();
    return wait(condition, mutex, &here);
}
"#;

/// Where the library is; compiled when first asked for.
pub(crate) fn library() -> PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(compile).clone()
}

fn compile() -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("skew-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let (source, library) = (directory.join("skew.c"), directory.join("skew.so"));
    std::fs::write(&source, SOURCE).expect("written");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(&source)
        .status()
        .expect("a C compiler, which librdkafka needs too");
    assert!(compiled.success(), "{compiled}");
    library
}
