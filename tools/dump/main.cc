// SPDX-License-Identifier: Apache-2.0
// ovs-offload-dump: what enters a port of Open vSwitch whose flows are
// executed in XDP, where tcpdump sees nothing of it.
#include <getopt.h>
#include <pcap/pcap.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "bpf/abi/capture.h"
#include "pcapng.h"
#include "port_capture.h"
#include "text.h"

namespace flowxlate {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char *kUsage =
    "usage: ovs-offload-dump [OPTION]... PORT [FILTER]\n"
    "Shows what enters a port of Open vSwitch whose flows are executed in "
    "XDP,\n"
    "the flows that each packet passes, and what becomes of it.\n"
    "\n"
    "FILTER is that of pcap-filter(7), of the packet as it enters.\n"
    "\n"
    "  -w, --write FILE     to FILE as pcapng, for Wireshark; \"-\": standard "
    "output\n"
    "  -s, --snaplen BYTES  of each packet (65536 unless given)\n"
    "  -B, --buffer KIB     for packets that wait to be read (16384 unless "
    "given)\n"
    "  -c, --count N        end after N packets that match\n"
    "      --seconds N      end after N seconds\n"
    "  -t, --target TARGET  the daemon to ask, as ovs-appctl's option -t\n"
    "      --version        print the version and end\n"
    "  -h, --help           print this and end\n";

struct Options {
    std::string port, filter, file, target = "ovs-vswitchd";
    uint32_t packet_bytes = XF_MAX_CAPTURE, ring_kib = 16384;
    uint64_t count = UINT64_MAX;
    std::optional<uint32_t> seconds;
};

volatile sig_atomic_t stopped = 0;
void stop(int) { stopped = 1; }

void complain(std::string_view text) {
    std::fprintf(stderr, "ovs-offload-dump: %.*s%s",
                 static_cast<int>(text.size()), text.data(),
                 text.ends_with('\n') ? "" : "\n");
}

[[noreturn]] void fail_usage(const std::string &why) {
    complain(why);
    std::fprintf(stderr, "Try --help.\n");
    std::exit(2);
}

template <typename T>
T number(const char *option, const char *text) {
    T value;
    const char *last = text + std::strlen(text);
    const auto [end, error] = std::from_chars(text, last, value);
    if (error != std::errc{} || end != last || !value) {
        fail_usage(std::string(option) + " takes a number above 0, not "
                   + text);
    }
    return value;
}

// Sets what is not an option: the port, then the filter, in one argument or
// more.
void set_arguments(int argc, char *argv[], Options *o) {
    if (optind >= argc) {
        fail_usage("which port?  \"ovs-appctl xdp-offload/show\" lists them");
    }
    o->port = argv[optind];
    for (int i = optind + 1; i < argc; i++) {
        o->filter += (o->filter.empty() ? "" : " ") + std::string(argv[i]);
    }
    if (o->packet_bytes > XF_MAX_CAPTURE) {
        fail_usage("no packet is longer than " + std::to_string(XF_MAX_CAPTURE)
                   + " bytes here");
    }
}

Options parse_options(int argc, char *argv[]) {
    enum { kSeconds = 256, kVersion };
    static constexpr option kLong[] = {
        {"write", required_argument, nullptr, 'w'},
        {"snaplen", required_argument, nullptr, 's'},
        {"buffer", required_argument, nullptr, 'B'},
        {"count", required_argument, nullptr, 'c'},
        {"seconds", required_argument, nullptr, kSeconds},
        {"target", required_argument, nullptr, 't'},
        {"version", no_argument, nullptr, kVersion},
        {"help", no_argument, nullptr, 'h'},
        {}};
    Options o;
    for (int c;
         (c = getopt_long(argc, argv, "w:s:B:c:t:h", kLong, nullptr)) >= 0;) {
        switch (c) {
            case 'w':
                o.file = optarg;
                break;
            case 's':
                o.packet_bytes = number<uint32_t>("-s", optarg);
                break;
            case 'B':
                o.ring_kib = number<uint32_t>("-B", optarg);
                break;
            case 'c':
                o.count = number<uint64_t>("--count", optarg);
                break;
            case kSeconds:
                o.seconds = number<uint32_t>("--seconds", optarg);
                break;
            case 't':
                o.target = optarg;
                break;
            case kVersion:
                std::puts("ovs-offload-dump " FLOWXLATE_VERSION);
                std::exit(0);
            case 'h':
                std::fputs(kUsage, stdout);
                std::exit(0);
            default:
                fail_usage("I do not know that option");
        }
    }
    set_arguments(argc, argv, &o);
    return o;
}

// libpcap's filters, of Ethernet frames.
class Filter {
public:
    explicit Filter(const Options &o) {
        std::unique_ptr<pcap_t, decltype(&pcap_close)> dead(
            pcap_open_dead(DLT_EN10MB, XF_MAX_CAPTURE), pcap_close);
        if (!dead
            || pcap_compile(dead.get(), &program_, o.filter.c_str(), 1,
                            PCAP_NETMASK_UNKNOWN)) {
            fail_usage("filter \"" + o.filter + "\": "
                       + (dead ? pcap_geterr(dead.get()) : "no memory"));
        }
    }
    ~Filter() { pcap_freecode(&program_); }
    Filter(const Filter &) = delete;
    Filter &operator=(const Filter &) = delete;

    bool matches(const Packet &p) const {
        const pcap_pkthdr header{
            {}, static_cast<bpf_u_int32>(p.data.size()), p.frame_len};
        return pcap_offline_filter(&program_, &header, p.data.data());
    }

private:
    bpf_program program_{};
};

struct CloseFile {
    void operator()(std::FILE *f) const {
        if (f != stdout) {
            std::fclose(f);
        }
    }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

// Where packets go; the program ends here if there is no such place.
File open_output(const Options &o) {
    if (o.file.empty()) {
        return File(stdout);
    }
    if (o.file == "-") {
        if (isatty(STDOUT_FILENO)) {
            fail_usage(
                "-w - writes no text: \"| wireshark -k -i -\" shows it");
        }
        return File(stdout);
    }
    File file(std::fopen(o.file.c_str(), "wbe"));
    if (!file) {
        complain(failure(errno, "cannot write " + o.file).message);
        std::exit(2);
    }
    return file;
}

// All that is done with a capture.
class Dump {
public:
    Dump(const Options &o, PortCapture *capture, std::FILE *file)
        : options_(o), filter_(o), capture_(*capture), file_(file) {
        if (!o.file.empty()) {
            pcapng_.emplace(file, o.port, o.filter, o.packet_bytes);
            std::fflush(file);  // Who reads it knows that we are ready.
        }
    }

    // Until something ends it.  Returns an exit status.
    int run() {
        auto next = Clock::now();
        const auto end = options_.seconds
                           ? next + std::chrono::seconds(*options_.seconds)
                           : Clock::time_point::max();
        std::string why;
        while (!stopped && !is_done() && why.empty()) {
            const auto now = Clock::now();
            if (now >= end) {
                break;
            }
            if (now >= next) {
                capture_.renew();
                why = capture_.why_over();
                next = now + std::chrono::seconds(1);
            }
            if (!read()) {
                std::fflush(file_);
                // Rather than be woken for each packet, which it would pay
                // for.
                std::this_thread::sleep_for(std::chrono::milliseconds(5));
            }
        }
        return finish(why);
    }

private:
    bool is_done() const {
        return n_shown_ >= options_.count || std::ferror(file_);
    }
    size_t read() {
        return capture_.read([this](const Packet &p) { return take(p); });
    }
    bool take(const Packet &p) {
        n_read_++;
        if (!filter_.matches(p)) {
            return true;
        }
        n_shown_++;
        if (pcapng_) {
            pcapng_->write(p, fate_of(p));
        } else {
            std::fputs(line_of(p).c_str(), file_);
        }
        return !is_done();
    }
    int finish(const std::string &why) {
        const auto failed = capture_.end();
        while (!is_done() && read()) {
        }
        const uint64_t lost = capture_.n_lost();
        if (pcapng_) {
            pcapng_->write_totals(n_read_ + lost, lost);
        }
        // Who reads our output may have had enough; files must be complete.
        std::fflush(file_);
        const bool broken = std::ferror(file_) && file_ != stdout;
        std::fprintf(stderr,
                     "%llu packets shown, of %llu that were captured; %llu "
                     "packets not captured, as the buffer was full\n",
                     static_cast<unsigned long long>(n_shown_),
                     static_cast<unsigned long long>(n_read_),
                     static_cast<unsigned long long>(lost));
        if (!why.empty()) {
            complain(why);
        }
        if (failed) {
            complain(failed.message);
        }
        if (broken) {
            complain("cannot write all of " + options_.file);
        }
        return why.empty() && !failed && !broken ? 0 : 1;
    }

    const Options &options_;
    const Filter filter_;
    PortCapture &capture_;
    std::FILE *file_;
    std::optional<Pcapng> pcapng_;
    uint64_t n_read_ = 0, n_shown_ = 0;
};

int main_of(int argc, char *argv[]) {
    const Options options = parse_options(argc, argv);
    (void)Filter(options);  // Complains, before anything is begun.
    const File file = open_output(options);
    struct sigaction action {};
    action.sa_handler = stop;
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    signal(SIGPIPE, SIG_IGN);

    std::unique_ptr<PortCapture> capture;
    if (auto f = PortCapture::begin(options.target, options.port,
                                    options.packet_bytes, options.ring_kib,
                                    &capture)) {
        complain(f.message);
        return 1;
    }
    return Dump(options, capture.get(), file.get()).run();
}

}  // namespace
}  // namespace flowxlate

int main(int argc, char *argv[]) { return flowxlate::main_of(argc, argv); }
