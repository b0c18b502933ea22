// SPDX-License-Identifier: Apache-2.0
// Locks of which the compiler knows what they guard.
//
// A member says which lock it needs (GUARDED_BY), a function which one its
// caller holds (REQUIRES) or must not hold (EXCLUDES).  clang checks that
// ("cmake --preset analyze", "-Wthread-safety"); for other compilers the words
// mean nothing.  It looks at one function at a time, and not into lambdas: one
// that needs the lock of its surroundings says REQUIRES as well.
#ifndef FLOWXLATE_GUARDED_H
#define FLOWXLATE_GUARDED_H

#include <mutex>

#ifdef __clang__
#define FLOWXLATE_LOCKING(x) __attribute__((x))
#else
#define FLOWXLATE_LOCKING(x)
#endif

#define GUARDED_BY(lock) FLOWXLATE_LOCKING(guarded_by(lock))
#define ACQUIRED_BEFORE(lock) FLOWXLATE_LOCKING(acquired_before(lock))
#define REQUIRES(...) FLOWXLATE_LOCKING(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) FLOWXLATE_LOCKING(locks_excluded(__VA_ARGS__))
#define ACQUIRES(...) FLOWXLATE_LOCKING(acquire_capability(__VA_ARGS__))
#define RELEASES(...) FLOWXLATE_LOCKING(release_capability(__VA_ARGS__))
#define NOT_CHECKED FLOWXLATE_LOCKING(no_thread_safety_analysis)

namespace flowxlate {

class FLOWXLATE_LOCKING(capability("mutex")) Mutex {
public:
    void lock() ACQUIRES() { mutex_.lock(); }
    void unlock() RELEASES() { mutex_.unlock(); }

private:
    std::mutex mutex_;
};

// Holds a mutex until the end of its scope, or until unlock().
class FLOWXLATE_LOCKING(scoped_lockable) MutexLock {
public:
    explicit MutexLock(Mutex &mutex) ACQUIRES(mutex) : lock_(mutex) {}
    ~MutexLock() RELEASES() = default;
    void unlock() RELEASES() { lock_.unlock(); }

private:
    std::unique_lock<Mutex> lock_;
};

// The name of a lock that several classes share, each of which reaches it by
// another way: the compiler takes two ways for two locks.  It is nothing at
// run time; what is held then is a mutex of whoever acquires it.
class FLOWXLATE_LOCKING(capability("mutex")) LockName {};

// What only one thread does needs no mutex.  That thread says so once, by
// assume(), and the compiler checks that others keep away.
class FLOWXLATE_LOCKING(capability("role")) Role {
public:
    void assume() const FLOWXLATE_LOCKING(assert_capability(this)) {}
};

}  // namespace flowxlate

#endif
