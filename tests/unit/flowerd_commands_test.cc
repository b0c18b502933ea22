// SPDX-License-Identifier: Apache-2.0
// What comes in from a user: requests, and files of packets.
#include "flowerd/commands.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

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

}  // namespace
}  // namespace flowerd::unit
