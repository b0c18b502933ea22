// SPDX-License-Identifier: Apache-2.0
// How much memory this process has made the kernel and the C library take.
#ifndef TESTS_BENCH_MEMORY_H
#define TESTS_BENCH_MEMORY_H

#include <cstddef>
#include <string>

namespace flowxlate::bench {

// Bytes that a descriptor of a BPF map or program stands for; 0 if it is none.
// Stores in '*name' what identifies that map or program.
size_t bpf_object_bytes(int fd, std::string *name);

// Bytes of all BPF maps and programs that this process has open, and heap.
double memory_bytes();

}  // namespace flowxlate::bench

#endif
