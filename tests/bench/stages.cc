// SPDX-License-Identifier: Apache-2.0
#include "stages.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cstring>
#include <stdexcept>

#include "stages.skel.h"
#include "xdp_offload.skel.h"

namespace flowxlate::bench {
namespace {

constexpr const char *kOwnMap = "detour_to";

// The maps of the same names, so that both work on the same tables.
void share_maps(const bpf_object *from, bpf_object *to) {
    bpf_map *map;
    bpf_object__for_each_map(map, to) {
        const auto *name = bpf_map__name(map);
        // set_constants() sees to the constants.
        if (bpf_map__is_internal(map) || !std::strcmp(name, kOwnMap)) {
            continue;
        }
        const auto *mine = bpf_object__find_map_by_name(from, name);
        if (!mine || bpf_map__reuse_fd(map, bpf_map__fd(mine))) {
            throw std::runtime_error(std::string("cannot share ") + name);
        }
    }
}

void set_constants(const xdp_offload_bpf &from, stages_bpf *to) {
    const auto &c = *from.rodata;
    to->rodata->xf_in_port = c.xf_in_port;
    to->rodata->xf_bucket_mask = c.xf_bucket_mask;
    to->rodata->xf_n_slots = c.xf_n_slots;
    to->rodata->xf_slot_mask = c.xf_slot_mask;
    to->rodata->xf_cache_bits = c.xf_cache_bits;
    for (size_t i = 0; i < std::size(c.xf_secret); i++) {
        to->rodata->xf_secret[i] = c.xf_secret[i];
    }
}

}  // namespace

void Stages::Deleter::operator()(stages_bpf *s) const {
    stages_bpf::destroy(s);
}

Stages::Stages(const test::Program &program) : skeleton_(stages_bpf::open()) {
    if (!skeleton_) {
        throw std::runtime_error("cannot open the stages");
    }
    const auto &whole = program.skeleton();
    share_maps(whole.obj, skeleton_->obj);
    set_constants(whole, skeleton_.get());
    if (stages_bpf::load(skeleton_.get())) {
        throw std::runtime_error("cannot load the stages");
    }
}

Stages::~Stages() = default;

int Stages::enter_fd() const {
    return bpf_program__fd(skeleton_->progs.stage_enter);
}

int Stages::parse_fd() const {
    return bpf_program__fd(skeleton_->progs.stage_parse);
}

int Stages::hash_fd() const {
    return bpf_program__fd(skeleton_->progs.stage_hash);
}

int Stages::find_fd() const {
    return bpf_program__fd(skeleton_->progs.stage_find);
}

int Stages::shortest_fd() const {
    return bpf_program__fd(skeleton_->progs.shortest);
}

int Stages::detour_fd(int fd) const {
    const uint32_t key = 0;
    const int map = bpf_map__fd(skeleton_->maps.detour_to);
    if (bpf_map_update_elem(map, &key, &fd, BPF_ANY)) {
        throw std::runtime_error("cannot chain the programs");
    }
    return bpf_program__fd(skeleton_->progs.detour);
}

void Stages::set_detour(uint32_t steps) const {
    skeleton_->bss->detour_steps = steps;
}

}  // namespace flowxlate::bench
