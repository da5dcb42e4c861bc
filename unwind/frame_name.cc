#include "unwind/frame_name.h"

#include "unwind/demangle.h"

namespace lbrd::unwind {

FrameName NameUserFrame(const Mapping* mapping, const ResolvedFrame& frame) {
  FrameName name{.symbol = {}, .offset = frame.ip};
  if (mapping == nullptr) return name;
  const std::optional<uint64_t> address = mapping->FileAddress(frame.look_up());
  if (!address.has_value()) {
    name.offset = frame.ip - mapping->start + mapping->file_offset;
    return name;
  }
  const uint64_t ip = *address + (frame.ip - frame.look_up());
  name.offset = ip;
  if (const std::optional<Symbol> symbol = mapping->binary->FindSymbol(*address)) {
    name.symbol = Demangle(symbol->name);
    name.offset = ip - symbol->start;
  }
  return name;
}

FrameName NameKernelFrame(const KernelSymbols* symbols, const ResolvedFrame& frame,
                          std::string* module) {
  FrameName name{.symbol = {}, .offset = frame.ip};
  if (symbols == nullptr) return name;
  if (const std::optional<KernelSymbol> symbol = symbols->Find(frame.look_up())) {
    name.symbol = std::string(symbol->name);
    name.offset = frame.ip - symbol->start;
    *module = std::string(symbol->module);
  }
  return name;
}

}  // namespace lbrd::unwind
