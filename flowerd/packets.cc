// SPDX-License-Identifier: Apache-2.0
#include "flowerd/packets.h"

#include <pcap/pcap.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <span>

#include "flowxlate/translate/describe.h"

namespace flowerd {

using flowxlate::Failure;

Failure read_capture(const std::string &path,
                     std::vector<std::string> *packets) {
    std::array<char, PCAP_ERRBUF_SIZE> why{};
    const std::unique_ptr<pcap_t, decltype(&pcap_close)> file(
        pcap_open_offline(path.c_str(), why.data()), pcap_close);
    if (!file) {
        return {EINVAL, why.data()};
    }
    if (pcap_datalink(file.get()) != DLT_EN10MB) {
        return {EINVAL, path + ": its packets are not of Ethernet"};
    }
    pcap_pkthdr *header = nullptr;
    const u_char *bytes = nullptr;
    int status = 1;
    while (packets->size() < kMaxPackets
           && (status = pcap_next_ex(file.get(), &header, &bytes)) == 1) {
        packets->push_back(flowxlate::to_hex(
            std::as_bytes(std::span(bytes, header->caplen))));
    }
    if (status == PCAP_ERROR) {
        return {EINVAL, path + ": " + pcap_geterr(file.get())};
    }
    return packets->empty() ? Failure{EINVAL, path + ": no packet"}
                            : Failure{};
}

}  // namespace flowerd
