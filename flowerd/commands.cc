// SPDX-License-Identifier: Apache-2.0
#include "flowerd/commands.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

namespace flowerd {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kUfid = "ufid:";
constexpr size_t kUfidDigits = 36;  // "01234567-89ab-cdef-0123-456789abcdef"
constexpr size_t kMaxExplained = 1000;  // With what they do.
constexpr size_t kMaxOnlyInTc = 20;
constexpr const char *kExplain = "xdp-offload/explain";
constexpr const char *kTrace = "xdp-offload/trace";
constexpr const char *kTopFlows = "xdp-offload/top-flows";
// Of ours, as list-commands has those of the library.
constexpr Xdp::Command kOwn[] = {
    {"explain", "[DEVICE [pref P]]", 0, 3},
    {"list-commands", "", 0, 0},
    {"show", "", 0, 0},
    {"stats", "[--json]", 0, 1},
    {"status", "", 0, 0},
    {"trace", "DEVICE HEX", 2, 2},
};

bool is_request_of_rpc(std::string_view request) {
    return request.starts_with('{');
}

// Names of devices need not be UTF-8, JSON must be.
std::string to_text(const Json &json, int indent) {
    return json.dump(indent, ' ', false, Json::error_handler_t::replace)
         + "\n";
}

// What Ufid::to_string() has made.
std::optional<Ufid> read_ufid(std::string_view text) {
    std::string digits(text);
    std::erase(digits, '-');
    std::array<uint32_t, 4> words{};
    Ufid ufid;
    static_assert(sizeof words == sizeof ufid.bytes);
    constexpr size_t kDigits = 2 * sizeof words[0];
    if (digits.size() != kDigits * words.size()) {
        return {};
    }
    for (size_t i = 0; i < words.size(); i++) {
        const char *begin = digits.data() + i * kDigits;
        const auto [end, error] =
            std::from_chars(begin, begin + kDigits, words[i], 16);
        if (error != std::errc{} || end != begin + kDigits) {
            return {};
        }
    }
    std::memcpy(ufid.bytes.data(), words.data(), sizeof words);
    return ufid;
}

Json to_json(const FilterId &id) {
    return {
        {"chain", id.chain}, {"pref", id.preference}, {"handle", id.handle}};
}

Json to_json(Device *device) {
    auto filters = Json::array();
    for (const auto &[id, f] : device->filters().all()) {
        const Stats s = device->stats_of(id);
        Json filter = to_json(id);
        filter.update({{"in_xdp", device->verdict_of(id).in_xdp},
                       {"packets", s.packets},
                       {"bytes", s.bytes}});
        filters.push_back(std::move(filter));
    }
    return {{"name", device->name()},
            {"filters_in_xdp", device->n_in_xdp()},
            {"packets", device->total().packets},
            {"bytes", device->total().bytes},
            {"filters", std::move(filters)}};
}

// "p1 pref 10 handle 0x1"
std::string full_name(const Device &device, const FilterId &id) {
    return device.name() + " " + to_string(id);
}

// What a flow does, in a reply of the library that begins with who it is.
std::string indented_lines(const std::string &text) {
    std::string s;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        s += line.starts_with("    ") ? line + "\n" : "";
    }
    return s;
}

bool read_preference(const std::string &text, int *preference) {
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), *preference);
    return error == std::errc{} && end == text.data() + text.size()
        && *preference > 0 && *preference <= UINT16_MAX;
}

const Xdp::Command *find_command(const std::string &name,
                                 const std::vector<Xdp::Command> &all) {
    const auto c = std::ranges::find_if(
        all, [&](const auto &command) { return name == command.name; });
    return c == all.end() ? nullptr : &*c;
}

std::vector<Xdp::Command> all_commands() {
    auto all = Xdp::commands();
    all.insert(all.begin(), std::begin(kOwn), std::end(kOwn));
    return all;
}

std::string list_commands() {
    std::string s = "The available commands are:\n";
    for (const auto &c : all_commands()) {
        s += std::string("  ") + c.name + (*c.usage ? " " : "") + c.usage
           + "\n";
    }
    return s;
}

}  // namespace

bool Commands::is_whole(std::string_view request) {
    return is_request_of_rpc(request)
             ? Json::accept(request)
             : request.find('\n') != std::string_view::npos;
}

std::string Commands::answer(const std::string &request) {
    if (is_request_of_rpc(request)) {
        return answer_rpc(request);
    }
    Words words;
    std::istringstream line(request.substr(0, request.find('\n')));
    for (std::string word; line >> word;) {
        words.push_back(word);
    }
    const Reply reply = run(words);
    return (reply.is_error ? std::string(kRefused) : "") + reply.text;
}

// As ovs-vswitchd answers ovs-appctl.
std::string Commands::answer_rpc(const std::string &request) {
    const Json json = Json::parse(request, nullptr, false);
    Words words;
    if (json.is_object() && json.contains("method")
        && json["method"].is_string()) {
        words.push_back(json["method"]);
        for (const auto &arg : json.value("params", Json::array())) {
            words.push_back(arg.is_string() ? arg.get<std::string>() : "");
        }
    }
    const Reply reply = run(words);
    const Json text = reply.text;
    return to_text(
        {{"id", json.is_object() ? json.value("id", Json()) : Json()},
         {"result", reply.is_error ? Json() : text},
         {"error", reply.is_error ? text : Json()}},
        -1);
}

Commands::Reply Commands::run(const Words &words) {
    const std::string name = words.empty() ? "" : words[0];
    const auto all = all_commands();
    const Xdp::Command *c = find_command(name, all);
    if (!c) {
        return {"\"" + name
                    + "\" is not a valid command (use \"list-commands\" to see "
                      "a list of valid commands)\n",
                true};
    }
    const size_t n = words.size() - 1;
    if (n < c->min_args || n > c->max_args) {
        return {
            name + ": wants " + (*c->usage ? c->usage : "no argument") + "\n",
            true};
    }
    if (name == "explain") {
        return explain(words);
    }
    if (name == "trace") {
        return trace(words);
    }
    return {name == "stats"           ? stats(n == 1)
            : name == "list-commands" ? list_commands()
            : name == "status"        ? tell({"xdp-offload/status"})
            : name == "show"          ? tell({"xdp-offload/show"})
                                      : tell(words)};
}

// -- Figures ----------------------------------------------------------------

std::string Commands::stats(bool json) {
    const Stats total = daemon_.total();
    const auto &followed = daemon_.followed();
    auto devices = Json::array();
    std::string text;
    for (const auto &[ifindex, device] : daemon_.devices()) {
        devices.push_back(to_json(device.get()));
        text += device->name() + ": " + std::to_string(device->n_in_xdp())
              + " of " + std::to_string(device->filters().all().size())
              + " filters in XDP, " + std::to_string(device->total().packets)
              + " packets, " + std::to_string(device->total().bytes)
              + " bytes\n";
    }
    if (!json) {
        return text.empty() ? "no device\n" : text;
    }
    return to_text({{"devices", std::move(devices)},
                    {"packets", total.packets},
                    {"bytes", total.bytes},
                    {"tc",
                     {{"messages", followed.n_messages},
                      {"losses", followed.n_lost},
                      {"resyncs", followed.n_resyncs},
                      {"last_us", followed.last.count()},
                      {"longest_us", followed.longest.count()}}}},
                   1);
}

// -- Why --------------------------------------------------------------------

Commands::Reply Commands::explain(const Words &words) {
    Choice choice;
    choice.device = words.size() > 1 ? words[1] : "";
    choice.with_flow = words.size() > 2;
    if (choice.with_flow
        && !(words.size() == 4 && words[2] == "pref"
             && read_preference(words[3], &choice.preference))) {
        return {"explain: wants [DEVICE [pref P]]\n", true};
    }
    if (!choice.device.empty() && !daemon_.find(choice.device)) {
        return {choice.device + ": no device of xdp-flowerd's, or not there\n",
                true};
    }
    size_t n = 0;
    std::string s;
    for (const auto &[ifindex, device] : daemon_.devices()) {
        if (!choice.device.empty() && choice.device != device->name()) {
            continue;
        }
        device->take_stats();
        for (const auto &[id, f] : device->filters().all()) {
            const bool is_meant =
                !choice.preference || choice.preference == id.preference;
            if (is_meant && (!choice.with_flow || n < kMaxExplained)) {
                s += explain(device.get(), id, choice);
            }
            n += is_meant;
        }
    }
    if (choice.with_flow && n > kMaxExplained) {
        s += "and " + std::to_string(n - kMaxExplained) + " more\n";
    }
    return {n ? s : "no filter\n"};
}

std::string Commands::explain(Device *device, const FilterId &id,
                              const Choice &choice) {
    const Verdict v = device->verdict_of(id);
    const Filter *f = device->filters().find(id);
    std::string s = full_name(*device, id) + " " + f->kind + ": "
                  + (v.in_xdp ? "in XDP" : "in TC, " + v.why_not) + "\n";
    if (!choice.with_flow) {
        return s;
    }
    const Stats counted = device->stats_of(id);
    s += "    packets:" + std::to_string(counted.packets)
       + ", bytes:" + std::to_string(counted.bytes) + " in XDP\n";
    const std::string flow =
        tell({kExplain, "ufid:" + device->ufid_of(id).to_string()});
    const bool was_refused = v.why_not.starts_with("xdp/refused");
    return s + (v.in_xdp ? indented_lines(flow) : was_refused ? flow : "");
}

Commands::Reply Commands::trace(const Words &words) {
    Device *device = daemon_.find(words[1]);
    if (!device) {
        return {words[1] + ": no device of xdp-flowerd's, or not there\n",
                true};
    }
    const std::string s = tell({kTrace, words[1], words[2]});
    const bool is_passed =
        s.find("verdict: passed to TC") != std::string::npos;
    return {s + (is_passed ? only_in_tc(device) : "")};
}

std::string Commands::only_in_tc(Device *device) {
    std::string s;
    size_t n = 0;
    for (const auto &[id, f] : device->filters().all()) {
        const Verdict v = device->verdict_of(id);
        if (v.in_xdp) {
            continue;
        }
        if (n++ < kMaxOnlyInTc) {
            s += "    " + to_string(id) + " " + f.kind + ": " + v.why_not
               + "\n";
        }
    }
    if (n > kMaxOnlyInTc) {
        s += "    and " + std::to_string(n - kMaxOnlyInTc)
           + " more (xdp-flowerd explain " + device->name() + ")\n";
    }
    return s.empty() ? "every filter of " + device->name() + " is in XDP\n"
                     : "filters of " + device->name()
                           + " that only TC executes:\n" + s;
}

// -- The library's ----------------------------------------------------------

std::string Commands::tell(const Words &words) {
    std::string text =
        daemon_.xdp().tell(words[0], {words.begin() + 1, words.end()});
    return words[0] == kTopFlows ? top_with_names(text)
                                 : with_names(std::move(text));
}

// Empty if it is no filter's.
std::string Commands::name_of(std::string_view text) const {
    const auto ufid = read_ufid(text);
    for (const auto &[ifindex, device] : daemon_.devices()) {
        if (const auto id = ufid ? device->filter_of(*ufid) : std::nullopt) {
            return full_name(*device, *id);
        }
    }
    return "";
}

std::string Commands::with_names(std::string text) const {
    for (size_t at = 0; (at = text.find(kUfid, at)) != std::string::npos;) {
        const auto digits =
            std::string_view(text).substr(at + kUfid.size(), kUfidDigits);
        const std::string name = name_of(digits);
        if (!name.empty()) {
            text.replace(at, kUfid.size() + digits.size(), name);
        }
        at++;
    }
    return text;
}

// The device has a member of its own.
std::string Commands::top_with_names(const std::string &json) const {
    Json top = Json::parse(json, nullptr, false);
    if (!top.is_object()) {
        return json;  // Says what is wrong with the question.
    }
    for (Json &flow : top["flows"]) {
        const auto ufid = read_ufid(flow.value("ufid", ""));
        const Device *device = daemon_.find(flow.value("in_port", ""));
        const auto id = ufid && device ? device->filter_of(*ufid)
                                       : std::optional<FilterId>{};
        if (!id) {
            continue;
        }
        const std::string text = flow.value("text", "");
        flow["text"] = to_string(*id) + (text.empty() ? "" : ": ") + text;
        flow["filter"] = to_json(*id);
    }
    return to_text(top, -1);
}

}  // namespace flowerd
