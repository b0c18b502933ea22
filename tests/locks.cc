// SPDX-License-Identifier: Apache-2.0
// Does clang still see who breaks the rules of the engine's locks?  A part is
// planted that does, and each line has to be refused as it says ("cmake
// --preset analyze"; clang's -verify).
#include "engine/core.h"

namespace flowxlate {
namespace {

class Part {
public:
    explicit Part(Core &core) : core_(core) {}

    void keeps_the_rules() {
        {
            AttachLock attaching(core_);
            of_attachments_++;
            StateLock lock(core_);
            of_state_ += core_.ports.by_slot().size();
            needs_state();
        }
        (void)core_.ask();
        core_.log(OVS_OFFLOAD_LOG_INFO, "");
    }
    void is_the_worker() {
        worker_role.assume();
        of_worker_++;
    }

    void reads_without_lock() {
        // expected-warning@+1 {{requires holding mutex 'state_lock'}}
        of_state_++;
    }
    void reads_what_all_share() {
        // expected-warning@+1 {{requires holding mutex 'state_lock'}}
        (void)core_.ports.by_slot();
    }
    void calls_without_lock() {
        // expected-warning@+1 {{requires holding mutex 'state_lock'}}
        needs_state();
    }
    void takes_both_in_the_wrong_order() {
        StateLock lock(core_);
        // expected-warning@+1 {{must be acquired before 'state_lock'}}
        AttachLock attaching(core_);
    }
    void locks_twice(Core &the_same) {
        StateLock lock(core_);
        // expected-warning@+1 {{'state_lock' that is already held}}
        StateLock again(the_same);
    }
    void asks_with_lock() {
        StateLock lock(core_);
        // expected-warning@+1 {{while mutex 'state_lock' is held}}
        (void)core_.ask();
    }
    void logs_with_lock() {
        StateLock lock(core_);
        // expected-warning@+1 {{while mutex 'state_lock' is held}}
        core_.log(OVS_OFFLOAD_LOG_INFO, "");
    }
    void asks_while_attaching() {
        AttachLock attaching(core_);
        // expected-warning@+1 {{while mutex 'attach_lock' is held}}
        (void)core_.ask();
    }
    void goes_on_after_unlock() {
        AttachLock attaching(core_);
        attaching.unlock();
        // expected-warning@+1 {{requires holding mutex 'attach_lock'}}
        of_attachments_++;
    }
    void is_somebody_else() {
        // expected-warning@+1 {{requires holding role 'worker_role'}}
        of_worker_++;
    }
    void forgets_the_lock_in_a_lambda() {
        StateLock lock(core_);
        [this] {
            // expected-warning@+1 {{requires holding mutex 'state_lock'}}
            of_state_++;
        }();
    }

private:
    void needs_state() REQUIRES(state_lock) { of_state_++; }

    Core &core_;
    size_t of_state_ GUARDED_BY(state_lock) = 0;
    size_t of_attachments_ GUARDED_BY(attach_lock) = 0;
    size_t of_worker_ GUARDED_BY(worker_role) = 0;
};

}  // namespace
}  // namespace flowxlate
