// SPDX-License-Identifier: Apache-2.0
#include "flow_file.h"

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace flowxlate::flows_test {
namespace {

constexpr uint32_t kFirstNamed = 100;  // Above all ports that are numbers.

void add_ports(const std::string &names, FlowFile *file,
               std::map<std::string, OdpPort> *ports) {
    std::istringstream in(names);
    for (std::string name; in >> name;) {
        const size_t n = file->ports.size() + file->tunnel_ports.size();
        const bool is_number =
            name.find_first_not_of("0123456789") == name.npos;
        (*ports)[name] =
            OdpPort{is_number ? static_cast<uint32_t>(std::stoul(name))
                              : kFirstNamed + static_cast<uint32_t>(n)};
    }
}

// Looks for "# WHAT: " at the beginning of a line and returns what follows.
bool follows(const std::string &line, const std::string &what,
             std::string *rest) {
    const std::string begin = "# " + what + ": ";
    if (!line.starts_with(begin)) {
        return false;
    }
    *rest = line.substr(begin.size());
    return true;
}

// OVS prints some things in another way than it reads them: the ports of a
// tunnel's actions, recirculation ids, and the names of a member.
std::string readable(const std::string &text, const FlowFile &file) {
    std::string out, word;
    auto end_word = [&] {
        for (auto *ports : {&file.ports, &file.tunnel_ports}) {
            if (auto it = ports->find(word); it != ports->end()) {
                word = std::to_string(index(it->second));
                break;
            }
        }
        if (out.ends_with("recirc(")) {
            word = std::to_string(std::stoul(word, nullptr, 0));
        } else if (word.starts_with("src_port=")
                   || word.starts_with("dst_port=")) {
            word = "tp_" + word.substr(0, 3) + word.substr(8);
        }
        out += word;
        word.clear();
    };
    for (const char c : text) {
        if (c == ',' || c == '(' || c == ')') {
            end_word();
            out += c;
        } else {
            word += c;
        }
    }
    end_word();
    return out;
}

// What is not matched is not printed, but OVS wants a tunnel's TTL, and takes
// a packet without eth() for one that has no Ethernet header.  Of a Geneve
// option not even the length is; OVN's are 4 bytes long.
std::string complete(std::string match) {
    static const std::string kTunnel = "tunnel(", kEthernet = "eth(",
                             kOption = "geneve({})";
    if (const size_t at = match.find(kOption); at != match.npos) {
        match.replace(at, kOption.size(),
                      "geneve({class=0x102/0,type=0x80/0,len=4,0x0/0})");
    }
    const size_t begin = match.find(kTunnel);
    const size_t end = match.find("),", begin);
    if (begin != match.npos
        && match.substr(begin, end - begin).find("ttl=") == match.npos) {
        match.insert(begin + kTunnel.size(), "ttl=0/0,");
    }
    return match.find(kEthernet) == match.npos ? match + ",eth()" : match;
}

// The actions of a list, those in brackets with the one that has them.
std::vector<std::string> split(const std::string &list) {
    std::vector<std::string> actions(1);
    int depth = 0;
    for (const char c : list) {
        depth += (c == '(') - (c == ')');
        if (c == ',' && !depth) {
            actions.emplace_back();
        } else {
            actions.back() += c;
        }
    }
    return actions;
}

RealFlow parse_flow(const std::string &line, const FlowFile &file) {
    static const std::string kActions = "actions:";
    const size_t end = line.find(", "), begin = line.find(kActions);
    if (end == line.npos || begin == line.npos || begin < end) {
        throw std::runtime_error("no flow: " + line);
    }
    const auto match = complete(readable(line.substr(0, end), file));
    const auto actions =
        split(readable(line.substr(begin + kActions.size()), file));
    std::vector<const char *> texts;
    for (auto &action : actions) {
        texts.push_back(action.c_str());
    }
    char *error = nullptr;
    RealFlow flow{line, {}};
    flow.attributes.reset(
        model_flow_parse(match.c_str(), texts.data(), texts.size(), &error));
    if (!flow.attributes) {
        const std::string why = error ? error : "";
        std::free(error);
        throw std::runtime_error(why + ": " + line);
    }
    return flow;
}

}  // namespace

FlowFile read_flows(const std::string &path) {
    std::ifstream in(path);
    FlowFile file;
    for (std::string line, names; std::getline(in, line);) {
        if (follows(line, "ports", &names)) {
            add_ports(names, &file, &file.ports);
        } else if (follows(line, "tunnel ports", &names)) {
            add_ports(names, &file, &file.tunnel_ports);
        } else if (!line.starts_with("#")) {
            file.flows.push_back(parse_flow(line, file));
        }
    }
    if (!in.eof()) {
        throw std::runtime_error("cannot read " + path);
    }
    return file;
}

}  // namespace flowxlate::flows_test
