// SPDX-License-Identifier: Apache-2.0
// Requests to a running daemon, over a Unix socket: one goes there, a text
// comes back, and the connection ends.  What they say, commands.h knows.
#ifndef FLOWERD_CONTROL_H
#define FLOWERD_CONTROL_H

#include <functional>
#include <string>

#include "flowxlate/base/resource.h"
#include "flowxlate/base/types.h"

namespace flowerd {

using flowxlate::Failure;

// The daemon's end.  Only its user may connect.
class Control {
public:
    ~Control();

    // Fails if a daemon serves that socket.
    Failure open(const std::string &path);
    int fd() const { return socket_.get(); }
    using IsWhole = std::function<bool(const std::string &)>;
    using Answer = std::function<std::string(const std::string &)>;
    // Answers whoever has connected; who sends nothing for 250 ms gets none.
    void serve(const IsWhole &, const Answer &);

private:
    std::string path_;
    flowxlate::Fd socket_;
};

// Sends 'line' to the daemon that serves the socket.
Failure ask(const std::string &path, const std::string &line,
            std::string *reply);

}  // namespace flowerd

#endif
