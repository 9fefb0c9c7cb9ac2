// SPDX-License-Identifier: Apache-2.0
//! Which instructions mean the same at another address.

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};

/// Whether a stub may repeat this instruction.
///
/// A short list, because a wrong "yes" breaks a program and a wrong "no" costs
/// time only. Memory operands are limited to the stack and to FS: a fault would
/// show the stub's address to the program, and these do not fault.
pub(super) fn is_movable(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    if instruction.flow_control() != FlowControl::Next {
        return false;
    }
    let listed = matches!(
        instruction.mnemonic(),
        M::Mov
            | M::Movzx
            | M::Movsx
            | M::Movsxd
            | M::Lea
            | M::Xor
            | M::And
            | M::Or
            | M::Add
            | M::Sub
            | M::Test
            | M::Cmp
            | M::Neg
            | M::Not
            | M::Push
            | M::Pop
            | M::Nop
            | M::Endbr64
            | M::Inc
            | M::Dec
            | M::Shl
            | M::Shr
            | M::Sar
            | M::Cdqe
            | M::Cwde
            | M::Xchg
            | M::Movaps
            | M::Movups
            | M::Movdqa
            | M::Movdqu
            | M::Movq
            | M::Movd
            | M::Pxor
            | M::Xorps
    );
    listed && operands(instruction).all(|operand| is_movable_operand(instruction, operand))
}

fn operands(instruction: &Instruction) -> impl Iterator<Item = u32> {
    0..instruction.op_count()
}

fn is_movable_operand(instruction: &Instruction, operand: u32) -> bool {
    match instruction.op_kind(operand) {
        OpKind::Memory => {
            if instruction.mnemonic() == Mnemonic::Lea || instruction.mnemonic() == Mnemonic::Nop {
                // Nothing is read; only the address itself must not depend on RIP.
                return !instruction.is_ip_rel_memory_operand();
            }
            let stack = matches!(instruction.memory_base(), Register::RSP | Register::RBP)
                && instruction.memory_index() == Register::None
                && instruction.segment_prefix() == Register::None;
            let thread = instruction.segment_prefix() == Register::FS
                && instruction.memory_base() == Register::None
                && instruction.memory_index() == Register::None;
            stack || thread
        }
        OpKind::Register => {
            // Segment and control registers are nobody's business here.
            let register = instruction.op_register(operand);
            register.is_gpr() || register.is_xmm()
        }
        _ => true,
    }
}

/// Whether the instruction looks at a register that `syscall` destroys; such an
/// instruction behind one would see what a stub leaves there.
pub(super) fn reads_destroyed(instruction: &Instruction) -> bool {
    let destroyed =
        |register: Register| matches!(register.full_register(), Register::RCX | Register::R11);
    destroyed(instruction.memory_base())
        || destroyed(instruction.memory_index())
        || operands(instruction).any(|operand| {
            instruction.op_kind(operand) == OpKind::Register
                && destroyed(instruction.op_register(operand))
        })
}

/// The number that the instruction puts into RAX, if it is that kind.
pub(super) fn number(instruction: &Instruction) -> Option<u64> {
    let sets = instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_kind() == OpKind::Register
        && instruction.op0_register().full_register() == Register::RAX;
    match instruction.op1_kind() {
        OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64 if sets => {
            Some(instruction.immediate(1))
        }
        _ => None,
    }
}

/// Whether the instruction puts something into RAX, as every caller of the
/// system does shortly before.
pub(super) fn sets_rax(instruction: &Instruction) -> bool {
    matches!(
        instruction.mnemonic(),
        Mnemonic::Mov | Mnemonic::Xor | Mnemonic::Lea | Mnemonic::Movsxd | Mnemonic::Pop
    ) && instruction.op0_kind() == OpKind::Register
        && instruction.op0_register().full_register() == Register::RAX
}
