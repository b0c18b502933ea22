// SPDX-License-Identifier: Apache-2.0
// What comes in from a user: requests, and files of packets.
#include "flowerd/commands.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "flowerd/compose.h"
#include "flowerd/packets.h"

namespace flowerd::unit {
namespace {

TEST(FlowerdCommands, WhatIsWhole) {
    constexpr struct {
        const char *request;
        bool is_whole;
    } kRows[] = {
        {"", false},
        {"stats --js", false},
        {"stats --json\n", true},
        {"\n", true},
        {R"({"id":0,"method":"xdp-offload/show",)", false},
        {R"({"id":0,"method":"xdp-offload/show","params":[]})", true},
        // A brace that ends nothing.
        {R"({"id":0,"method":"a}",)", false},
        {"{\n", false},
    };
    for (const auto &row : kRows) {
        EXPECT_EQ(Commands::is_whole(row.request), row.is_whole)
            << row.request;
    }
}

// A file of one packet, in the format of pcap.
class File {
public:
    File(uint32_t link_type, const std::string &packet) {
        const uint32_t n = static_cast<uint32_t>(packet.size());
        const uint32_t words[] = {0xa1b2c3d4, 4 << 16 | 2, 0, 0, 65535,
                                  link_type,  0,           0, n, n};
        const int fd = mkstemp(path.data());
        EXPECT_EQ(write(fd, words, sizeof words),
                  static_cast<ssize_t>(sizeof words));
        EXPECT_EQ(write(fd, packet.data(), n), static_cast<ssize_t>(n));
        close(fd);
    }
    ~File() { unlink(path.c_str()); }

    std::string path = "/tmp/flowerd-packets-XXXXXX";
};

TEST(FlowerdPackets, OfEthernet) {
    const File file(1, std::string("\x02\x00\xff\x7f", 4));
    std::vector<std::string> packets;
    EXPECT_FALSE(read_capture(file.path, &packets));
    EXPECT_EQ(packets, std::vector<std::string>{"0200ff7f"});
}

TEST(FlowerdPackets, WhatIsWrongIsSaid) {
    std::vector<std::string> packets;
    const File of_ip(101, "E");
    EXPECT_EQ(read_capture(of_ip.path, &packets).message,
              of_ip.path + ": its packets are not of Ethernet");
    EXPECT_TRUE(read_capture("/dev/null", &packets));
    EXPECT_TRUE(read_capture("/there/is/none", &packets));
    EXPECT_TRUE(packets.empty());
}

std::string composed(const std::vector<std::string> &words) {
    std::string hex;
    const auto f = compose(words, &hex);
    return f ? f.message : hex;
}

// What the checksums cover adds up to 0xffff with them.
TEST(FlowerdPackets, OfWords) {
    const std::string payload(64, '0');
    EXPECT_EQ(composed({"dst_ip", "10.0.0.9", "ip_proto", "udp", "dst_port",
                        "53", "ip_ttl", "1", "vlan_id", "5"}),
              "0200000000020200000000018100000508004500003c000100000111a5a7"
              "0a0000010a00000903e800350028e777"
                  + payload);
    EXPECT_EQ(composed({"dst_mac"}), "dst_mac: no value");
    EXPECT_EQ(composed({"src_ip", "10.0.0.1", "dst_ip", "fc00::2"}),
              "dst_ip fc00::2: not a value of that, or the addresses are of "
              "two kinds");
    EXPECT_EQ(composed({"ct_state", "+trk"}).substr(0, 20),
              "ct_state: not one of");
}

}  // namespace
}  // namespace flowerd::unit
