// SPDX-License-Identifier: Apache-2.0
// What a running daemon tells.
//
// A request is a line ("explain p1 pref 10"), as xdp-flowerd(8) sends it, or
// the JSON-RPC of ovs-appctl(8).  By that the tools of the offload
// (ovs-offload-top, ovs-offload-dump) ask the daemon what they ask
// ovs-vswitchd: all commands of the library are served, xdp-offload/show and
// others.
//
// The library knows flows by a ufid.  In what it tells, those of filters have
// the filter's name instead: "p1 pref 10 handle 0x1".
#ifndef FLOWERD_COMMANDS_H
#define FLOWERD_COMMANDS_H

#include <string>
#include <string_view>
#include <vector>

#include "flowerd/daemon.h"

namespace flowerd {

// What the answer to a line begins with that is refused.
constexpr std::string_view kRefused = "refused: ";

class Commands {
public:
    explicit Commands(Daemon *daemon) : daemon_(*daemon) {}

    // Has all of a request come?
    static bool is_whole(std::string_view request);
    // Requests are not trusted.
    std::string answer(const std::string &request);

private:
    using Words = std::vector<std::string>;
    struct Reply {
        std::string text;
        bool is_error = false;
    };
    // The filters that a question is about.
    struct Choice {
        std::string device;      // Empty: all.
        int preference = 0;      // 0: all.
        bool with_flow = false;  // Tell what is done, and what a reason means.
    };

    Reply run(const Words &);
    std::string answer_rpc(const std::string &request);
    std::string stats(bool json);
    Reply explain(const Words &);
    std::string explain(Device *, const FilterId &, const Choice &);
    Reply trace(const Words &);
    std::string only_in_tc(Device *);
    std::string tell(const Words &);
    std::string name_of(std::string_view ufid) const;
    std::string with_names(std::string text) const;
    std::string top_with_names(const std::string &json) const;

    Daemon &daemon_;
};

}  // namespace flowerd

#endif
