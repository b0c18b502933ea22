// SPDX-License-Identifier: Apache-2.0
// What we ask and tell OVS.  Nobody else calls the pointers that it has given
// us (ovs_offload_abi.h).
//
// OVS may be older than we are, and have less to offer: then it stays without
// what the missing member is for.
//
// There are two kinds of calls.  Those of 'notify' return at once, whatever
// locks OVS or we hold.  Those of 'ask' take locks of OVS, so none of ours may
// be held: see Core::ask().
#ifndef FLOWXLATE_HOST_H
#define FLOWXLATE_HOST_H

#include <cstddef>
#include <string>
#include <vector>

#include "base/types.h"
#include "translate/match.h"

namespace flowxlate {

// OVS's datapath types.
constexpr const char *kUserspaceDatapath = "netdev";
constexpr const char *kKernelDatapath = "system";
// That of xdp-flowerd: the flows are TC's filters, which TC executes where XDP
// does not.
constexpr const char *kTcDatapath = "tc";

class Host {
    static ovs_offload_host completed(const ovs_offload_host &);

    const ovs_offload_host services_;  // Before those that refer to it.

public:
    // An OVS whose structure is shorter is not served: it does not tell of
    // what it cannot serialise of a flow (OVS_OFFLOAD_KEY_UNTOLD), so that
    // flows would match too much.
    static constexpr size_t kMinSize = offsetof(ovs_offload_host, has_port);

    explicit Host(const ovs_offload_host &host)
        : services_(completed(host)), notify(services_), ask(services_) {}
    Host(const Host &) = delete;
    Host &operator=(const Host &) = delete;

    DontFragment dont_fragment() const {
        return services_.finds_dont_fragment ? DontFragment::kIsFound
                                             : DontFragment::kIsIgnored;
    }

    class Notify {
    public:
        explicit Notify(const ovs_offload_host &host) : host_(host) {}

        void log(ovs_offload_log_level level, const std::string &line) const {
            host_.log(level, line.c_str());
        }
        void flows_lost() const { host_.flows_lost(); }
        void offer_again() const { host_.offer_again(); }
        void copies_ready() const { host_.copies_ready(); }
        bool handles_misses() const { return host_.handles_misses(); }
        bool has_rules() const { return host_.has_rules(); }
        bool is_enabled() const { return host_.is_enabled(); }
        const char *ovs_version() const { return host_.ovs_version; }

    private:
        const ovs_offload_host &host_;
    };

    class Ask {
    public:
        explicit Ask(const ovs_offload_host &host) : host_(host) {}

        // Not > 0: no port that we have taken.
        Ifindex port_ifindex(const char *dpif_type, OdpPort) const;
        bool has_port(const std::string &dpif_type,
                      const std::string &name) const;
        std::string flow_text(const ovs_offload_flow &) const;
        // Makes a packet of a flow's text.  Returns what is wrong with it.
        std::string compose(const std::string &flow,
                            std::vector<std::byte> *packet) const;
        std::string trace(const std::string &dpif_type,
                          const std::string &port,
                          const std::string &hex) const;

    private:
        const ovs_offload_host &host_;
    };

    const Notify notify;
    const Ask ask;
};

}  // namespace flowxlate

#endif
