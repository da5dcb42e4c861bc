// A progress bar on standard error, drawn only when that is a terminal.
#pragma once

#include <string>

namespace lbrd::client {

class Progress {
 public:
  // `quiet`: draw nothing.
  explicit Progress(bool quiet);
  ~Progress();  // erases it
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Whether there is anybody to draw for.
  bool drawing() const { return drawing_; }
  // `done` from 0 to 1; below 0: unknown, only `text` is shown.
  void Show(double done, const std::string& text);
  void Erase();

 private:
  bool drawing_;
  bool drawn_ = false;
};

}  // namespace lbrd::client
