"""What a machine does while its profiler is measured: a C++ program, an interpreter, a compiler."""

import os
import signal
import subprocess
import time

from lbrd_fixture import DEMO

CPP_SOURCE = """
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>
int main(int argc, char** argv) {
  std::map<std::string, std::vector<std::function<int(int)>>> table;
  for (int i = 0; i < argc; ++i) table[argv[i]].push_back([i](int j) { return i + j; });
  std::regex words("([a-z]+)-([0-9]+)");
  std::unordered_map<std::string, int> counts;
  for (auto& [name, calls] : table) {
    std::smatch match;
    if (std::regex_match(name, match, words)) ++counts[match[1]];
    std::sort(calls.begin(), calls.end(), [](auto& a, auto& b) { return a(0) < b(0); });
  }
  for (auto& [name, count] : counts) std::cout << name << count;
}
"""
PYTHON_PROGRAM = """
import json, re
rows = [{"name": f"row-{i}", "values": list(range(i % 50)), "text": "abc " * (i % 20)} for i in range(2000)]
def depth(n):
    return 0 if n == 0 else 1 + depth(n - 1)
while True:
    text = json.dumps(rows)
    json.loads(text)
    re.findall(r"row-([0-9]+)", text)
    sorted(rows, key=lambda row: (-len(row["values"]), row["text"]))
    depth(200)
"""


class MixedLoad:
    """The demo workload, python3, and g++ again and again, in a process group of their own."""

    def __init__(self, folder):
        self.source = folder / "load.cc"
        self.source.write_text(CPP_SOURCE)
        self.processes = []

    def __enter__(self):
        compile_again = f"while :; do g++ -O2 -std=c++20 -c {self.source} -o /dev/null; done"
        for command in ([str(DEMO)], ["python3", "-c", PYTHON_PROGRAM], ["sh", "-c", compile_again]):
            self.processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL,
                                                   stderr=subprocess.DEVNULL, start_new_session=True))
        time.sleep(0.5)
        return self

    def __exit__(self, *_):
        for process in self.processes:
            os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            process.wait(timeout=30)
