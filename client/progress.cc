#include "client/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace lbrd::client {
namespace {

constexpr int kBarCells = 30;

}  // namespace

Progress::Progress(bool quiet) : drawing_(!quiet && isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() { Erase(); }

void Progress::Show(double done, const std::string& text) {
  if (!drawing_) return;
  std::string line = "\r\x1b[K";
  if (done >= 0) {
    const int full = static_cast<int>(std::clamp(done, 0.0, 1.0) * kBarCells);
    for (int i = 0; i < kBarCells; ++i) line += i < full ? "█" : "░";
    line += ' ';
  }
  line += text;
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
  drawn_ = true;
}

void Progress::Erase() {
  if (!drawn_) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
  drawn_ = false;
}

}  // namespace lbrd::client
